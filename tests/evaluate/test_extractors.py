"""What is measured on real frames: in any order, in any batches, with missed faces marked."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from mmfa.errors import MediaError
from mmfa.evaluate.appearance import AppearanceMeasurer
from mmfa.evaluate.compare import face_errors
from mmfa.evaluate.extractors import FaceMeasurer, FaceMeasures
from mmfa.evaluate.validation import blurred, portrait
from mmfa.media.image import Array
from mmfa.priors.identity import IdentityNet
from mmfa.priors.landmarks import FaceLandmarker, detect_single, roi_from_landmarks, to_pixels

GREY = np.full((256, 256, 3), 127, np.uint8)
FEATURES = ("generated_features", "driving_features")


@pytest.fixture(scope="module")
def measured(faces: FaceMeasurer, frames: list[Array]) -> FaceMeasures:
    return faces.measure(frames)


def assert_same(a: FaceMeasures, b: FaceMeasures) -> None:
    assert torch.equal(a.found, b.found)
    for name, atol in (("points", 5e-3), ("score", 1e-5), ("rotation", 1e-4), ("scale", 1e-4), ("identity", 1e-4)):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=atol, equal_nan=True)


def test_each_frame_is_measured_as_a_photo_is_and_refined_once_more(measured: FaceMeasures, frames: list[Array]) -> None:
    picture = torch.from_numpy(frames[3]).permute(2, 0, 1)[None] / 255
    alone = detect_single(frames[3])
    with torch.no_grad():
        refined = FaceLandmarker()(picture, roi_from_landmarks(to_pixels(alone.points, 256, 256))[None])
    torch.testing.assert_close(measured.points[3], to_pixels(refined.points[0], 256, 256), rtol=0, atol=5e-3)
    torch.testing.assert_close(measured.identity[3], IdentityNet().embed(picture, refined.points)[0], rtol=0, atol=1e-4)


def test_batches_do_not_matter(measured: FaceMeasures, frames: list[Array]) -> None:
    assert_same(FaceMeasurer(batch=3).measure(frames), measured)


def test_order_does_not_matter(faces: FaceMeasurer, measured: FaceMeasures, frames: list[Array]) -> None:
    order = [4, 0, 6, 2, 5, 1, 3]
    assert_same(faces.measure([frames[index] for index in order]), measured[torch.tensor(order)])


def test_missed_faces_stay_in_their_place(faces: FaceMeasurer, measured: FaceMeasures, frames: list[Array]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    holes = faces.measure([frames[0], GREY, frames[2], noise, frames[4]])
    assert holes.found.tolist() == [True, False, True, False, True]
    assert holes.points[1].isnan().all() and holes.identity[3].isnan().all() and holes.rotation[1].isnan().all()
    assert_same(holes[torch.tensor([0, 2, 4])], measured[torch.tensor([0, 2, 4])])
    errors = face_errors(holes, measured[:5])
    assert errors["mkr"].tolist() == [0, 1, 0, 1, 0] and errors["csim"].isnan().tolist() == [False, True, False, True, False]


def test_no_face_at_all(faces: FaceMeasurer) -> None:
    nobody = faces.measure([GREY, GREY])
    assert not nobody.found.any() and nobody.score.tolist() == [0, 0] and nobody.scale.isnan().all()


def test_landmarks_are_in_pixels_of_256(faces: FaceMeasurer) -> None:
    wide = portrait().wide[:256, :256]
    large = np.repeat(np.repeat(wide, 2, 0), 2, 1)
    both = faces.measure([wide]), faces.measure([large])
    assert (both[0].points - both[1].points)[..., :2].norm(dim=-1).mean() < 0.5


def test_only_a_batch_of_frames_is_held(faces: FaceMeasurer, appearance: AppearanceMeasurer, frames: list[Array]) -> None:
    taken = 0

    def endless() -> Iterator[Array]:
        nonlocal taken
        while True:
            taken += 1
            yield frames[0]

    assert len(next(faces.stream(endless()))) == taken == faces.batch
    taken = 0
    next(appearance.stream(endless(), iter(endless())))
    assert taken == 2 * appearance.batch


def test_pairs_in_batches_are_pairs_at_once(appearance: AppearanceMeasurer, frames: list[Array]) -> None:
    worse = [blurred(frame, 1 + index / 3) for index, frame in enumerate(frames)]
    whole, parts = appearance.measure(worse, frames), AppearanceMeasurer(batch=2).measure(worse, frames)
    assert {"psnr", "ssim", appearance.perceptual_name, "flicker", "sharpness"} <= whole.values.keys() == parts.values.keys()
    for name, values in [*whole.values.items(), *((name, getattr(whole, name)) for name in FEATURES)]:
        assert len(values) == len(frames)
        other = getattr(parts, name) if name in FEATURES else parts.values[name]
        torch.testing.assert_close(other, values, rtol=1e-5, atol=1e-5, equal_nan=True)
    features = torch.cat(list(appearance.features(frames)))
    torch.testing.assert_close(features, whole.driving_features, rtol=1e-5, atol=1e-5)


def test_identity_is_compared_with_the_source_when_given(measured: FaceMeasures, faces: FaceMeasurer) -> None:
    source = faces.measure([portrait().frame()])
    errors = face_errors(measured, measured, source=source)
    assert errors["csim"].max() < 0.9 and errors["akd_l2_mesh68"].max() == 0
    assert face_errors(measured, measured)["csim"].min() > 0.999


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([GREY, GREY[:128, :128]], "Frame 1 has 128 pixels a side"),
        ([GREY[:100]], "Frame 0 is .* square"),
        ([GREY.astype(np.float32)], "float32"),
        ([], "no frames"),
    ],
)
def test_unusable_frames_are_named(faces: FaceMeasurer, bad: list[Array], message: str) -> None:
    with pytest.raises(MediaError, match=message):
        faces.measure(bad)


def test_clips_of_different_length_or_size_are_refused(
    faces: FaceMeasurer, appearance: AppearanceMeasurer, measured: FaceMeasures, frames: list[Array]
) -> None:
    with pytest.raises(MediaError, match="6 frames, the driving clip 7"):
        face_errors(measured[:6], measured)
    with pytest.raises(MediaError, match="generated clip ends after 6 frames"):
        appearance.measure(frames[:6], frames)
    with pytest.raises(MediaError, match="128 pixels a side, driving frames 256"):
        appearance.measure([GREY[:128, :128]], [GREY])
