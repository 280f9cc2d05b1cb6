"""What surrounds a face: the ring, the photo laid over a frame, and ghosts that were drawn by hand."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmfa.evaluate import metrics
from mmfa.evaluate.extractors import FaceMeasurer, FaceMeasures
from mmfa.evaluate.predictions import Predictions
from mmfa.evaluate.protocol import tasks_of
from mmfa.evaluate.ring import REACH, Photo, ghost, ring_of, ring_psnr, ring_sharpness, warped
from mmfa.evaluate.run import evaluate
from mmfa.evaluate.subjects import CopySource
from mmfa.evaluate.validation import blurred, haloed, portrait, sharpened
from mmfa.media.image import Array, to_tensor
from mmfa.priors.groups import FACE_OVAL


def face(radius: float = 40.0, *, centre: tuple[float, float] = (128.0, 128.0)) -> Tensor:
    """Landmarks (1,478,3) whose oval is a circle; the others lie in its middle."""
    points = torch.tensor([*centre, 0.0]).expand(478, 3).clone()
    angles = torch.arange(len(FACE_OVAL)) * (2 * math.pi / len(FACE_OVAL))
    points[list(FACE_OVAL), :2] += radius * torch.stack([angles.sin(), -angles.cos()], 1)
    return points[None]


@pytest.mark.parametrize("size", [256, 128, 250])
def test_the_ring_begins_at_the_oval_and_ends_at_its_reach(size: int) -> None:
    """Of a circle of radius 40 and height 80: from 40 to 40 + 0.6 x 80 = 88 pixels from its middle, of 256."""
    ring = ring_of(face(), size)[0]
    places = (torch.arange(size) + 0.5) * 256 / size - 128
    distance = (places[:, None].square() + places.square()).sqrt()
    sure = (distance - 40).abs().minimum((distance - (40 + 80 * REACH)).abs()) > 2
    assert torch.equal(ring[sure], ((distance > 40) & (distance < 88))[sure]) and sure.float().mean() > 0.85


def test_without_a_face_there_is_no_ring_and_no_value() -> None:
    nowhere, image = torch.full((1, 478, 3), math.nan), torch.rand(1, 3, 64, 64)
    ring = ring_of(nowhere, 64)
    assert not ring.any()
    photo = warped(Photo(image[0], face()[0]), nowhere)
    values = (ring_psnr(image, image, ring), ring_sharpness(image, image, ring), ghost(image, image, ring, photo))
    assert all(value.isnan().tolist() == [True] for value in values)
    unseen = warped(Photo(image[0], nowhere[0]), face())  # a photo without a face
    assert ghost(image, image, ring_of(face(), 64), unseen).isnan().all()


def test_the_photo_follows_shift_size_and_turn_of_the_landmarks(faces: FaceMeasurer) -> None:
    picture = portrait()
    still = picture.frame()
    points = faces.measure([still]).points
    photo = Photo(to_tensor(still), points[0])
    torch.testing.assert_close(warped(photo, points)[0], photo.image, rtol=0, atol=1e-4)
    angle = math.radians(7)
    turn = 0.9 * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = torch.tensor([128.0, 128.0])
    moved = points.clone()
    moved[..., :2] = (points[..., :2] - middle) @ turn.T + middle + torch.tensor([6.0, -4.0])
    found = warped(photo, moved)
    smaller = Image.fromarray(still).rotate(-7, Image.Resampling.BICUBIC)
    data = (1 / 0.9, 0, 128 - (128 + 6) / 0.9, 0, 1 / 0.9, 128 - (128 - 4) / 0.9)
    expected = to_tensor(np.array(smaller.transform((256, 256), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)))
    inside = slice(60, 196)
    assert float(metrics.psnr(found[:, :, inside, inside], expected[None, :, inside, inside])) > 32


def test_ring_psnr_and_sharpness_see_the_ring_alone() -> None:
    torch.manual_seed(0)
    driving, ring = torch.rand(1, 3, 256, 256) * 0.8, ring_of(face(), 256)
    inside = torch.zeros_like(ring)
    inside[:, 104:152, 104:152] = True  # a square within the oval, none of whose pixels touches the ring
    elsewhere = torch.where(inside[:, None], 1.0, driving)
    assert float(ring_psnr(elsewhere, driving, ring)) == 100 and float(ring_sharpness(elsewhere, driving, ring)) == 1
    lighter = torch.where(ring[:, None], driving + 0.1, driving)
    assert float(ring_psnr(lighter, driving, ring)) == pytest.approx(20, abs=1e-4)
    assert float(metrics.psnr(lighter, driving)) > 21
    everywhere = torch.ones_like(ring)
    half = driving / 2
    assert float(ring_sharpness(half, driving, ring)) == pytest.approx(0.25, abs=1e-5)
    assert float(ring_psnr(half, driving, everywhere)) == pytest.approx(float(metrics.psnr(half, driving)), abs=1e-5)
    assert float(ring_sharpness(half, driving, everywhere)) == pytest.approx(float(metrics.sharpness(half, driving)), abs=1e-6)
    assert ring_sharpness(driving, torch.full_like(driving, 0.5), ring).isnan().all()


def test_a_halo_is_a_ghost_and_what_the_references_have_is_none(faces: FaceMeasurer, frames: list[Array]) -> None:
    """The photo is another frame of the clip, so that the head has moved."""
    seen: FaceMeasures = faces.measure(frames)
    photo = Photo(to_tensor(frames[0]), seen.points[0])
    ring, over = ring_of(seen.points, 256), warped(photo, seen.points)
    driving = torch.stack([to_tensor(frame) for frame in frames])

    def ghosts(images: list[Array]) -> Tensor:
        return ghost(torch.stack([to_tensor(image) for image in images]), driving, ring, over)

    drawn = ghosts([haloed(frame, points) for frame, points in zip(frames, seen.points, strict=True)])
    assert ghosts(frames).max() == 0 and ghosts([blurred(frame, 2) for frame in frames]).max() < 0.01 * drawn.min()
    crisp = [sharpened(frame) for frame in frames]
    assert metrics.sharpness(torch.stack([to_tensor(frame) for frame in crisp]), driving).min() > 1.5
    assert drawn.min() > 0.1 and ghosts(crisp).max() < 0.05 * drawn.min()
    # The photo's own edges, where its landmarks say that they are now, are none either, whatever the driving frame shows.
    assert ghost(over, torch.full_like(driving, 0.5), ring, over).max() == 0
    assert ghost(over, driving, ring, torch.full_like(driving, 0.5)).max() > 0.05
    faint = ghosts([haloed(frame, points, grey=int(frame.mean()) + 8) for frame, points in zip(frames, seen.points, strict=True)])
    assert (faint < drawn).float().mean() > 0.5


@pytest.fixture(scope="module")
def turning(frames: list[Array], clip_writer, tmp_path_factory) -> Path:
    """One clip of a man who turns his head, by less than 25 degrees."""
    root = tmp_path_factory.mktemp("turning")
    clip_writer(root / "man.mp4", frames, fps=2, sound=False)
    return root


def test_turn_is_of_the_turned_frames_alone(turning: Path, faces: FaceMeasurer, tmp_path: Path, monkeypatch) -> None:
    """With a limit that some frames of the clip pass: the mean over them is taken by hand."""
    seen = faces.measure(next(iter(tasks_of(turning, protocol="same", split=None))).driving.read())
    turn = metrics.rotation_error(seen.rotation[1:], seen.rotation[:1].expand(len(seen) - 1, 3, 3))
    limit = float(turn.sort().values[-3:-1].mean())
    found = evaluate(turning, tmp_path / "none", subject=CopySource(), stride=1, cache=tmp_path / "kept", quiet=True).report
    assert float(turn.max()) < 25 and found.figure("turn_csim") is None
    assert found.unavailable["turn_csim"] == "No frame shows the head turned by 25 degrees or more from the photo."
    monkeypatch.setattr("mmfa.evaluate.figures.TURNED", limit)
    outcome = evaluate(turning, tmp_path / "some", subject=CopySource(), stride=1, cache=tmp_path / "kept", quiet=True)
    assert outcome.measured == 0
    report, there = outcome.report, turn >= limit
    assert 0 < int(there.sum()) < len(there)
    copied = seen.points[:1].expand(len(seen) - 1, -1, -1)
    by_hand = float(metrics.akd_l2_mesh478(copied, seen.points[1:])[there].mean())
    figure, plain = report.figure("turn_akd_l2_mesh478"), report.figure("akd_l2_mesh478")
    assert figure and plain and figure.value == pytest.approx(by_hand, rel=1e-3) and figure.value > plain.value
    assert (figure.frames, figure.missed, figure.reference) == (int(there.sum()), 0, "driving frames")
    for name in ("turn_csim", "turn_lpips_lite0"):
        other = report.figure(name)
        assert other and other.frames == figure.frames, name
    assert report.figure("turn_lpips") is None and "turn_lpips" in report.unavailable


def test_a_turned_frame_without_a_face_is_missed_not_dropped(turning: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("mmfa.evaluate.figures.TURNED", 0.0)
    (task,) = tasks_of(turning, protocol="same", split=None)
    place = tmp_path / "predicted" / task.name
    place.mkdir(parents=True)
    for number, frame in enumerate(task.driving.read(), 1):
        Image.fromarray(np.full_like(frame, 127) if number == 3 else frame).save(place / f"{number:06d}.png")
    report = evaluate(turning, tmp_path / "out", subject=Predictions(tmp_path / "predicted"), stride=1, quiet=True).report
    csim, pixels = report.figure("turn_csim"), report.figure("turn_lpips_lite0")
    assert csim and pixels and (csim.frames, csim.missed) == (5, 1) and (pixels.frames, pixels.missed) == (6, 0)


def test_the_ring_in_a_report_is_that_of_the_frames(turning: Path, faces: FaceMeasurer, tmp_path: Path) -> None:
    """With a stride, and by copying, whose frames are known; across identities there is none."""
    (task,) = tasks_of(turning, protocol="same", split=None, stride=2)
    every = list(task.driving.read())
    driving = [every[index] for index in task.measured]
    report = evaluate(turning, tmp_path / "out", subject=CopySource(), stride=2, quiet=True).report
    points = faces.measure(driving).points
    ring = ring_of(points, 256)
    photo = Photo(to_tensor(every[0]), faces.measure(every[:1]).points[0])
    real = torch.stack([to_tensor(frame) for frame in driving])
    copied = to_tensor(every[0]).expand_as(real)
    expected = {
        "ring_psnr": ring_psnr(copied, real, ring),
        "ring_sharpness": ring_sharpness(copied, real, ring),
        "ghost": ghost(copied, real, ring, warped(photo, points)),
    }
    for name, values in expected.items():
        figure = report.figure(name)
        assert figure and figure.value == pytest.approx(float(values.mean()), rel=1e-3), name
        assert (figure.frames, figure.missed) == (len(driving), 0)
    assert expected["ghost"].min() > 0
    (tmp_path / "other").mkdir()
    for name in ("man", "other"):
        shutil.copy(turning / "man.mp4", tmp_path / "other" / f"{name}.mp4")
    people = [{"person": name, "split": "val", "file": f"{name}.mp4"} for name in ("man", "other")]
    (tmp_path / "other" / "index.json").write_text(json.dumps({"clips": people}))
    across = evaluate(tmp_path / "other", tmp_path / "x", subject=CopySource(), protocol="cross", stride=2, quiet=True).report
    assert all(across.figure(name) is None and "across identities" in across.unavailable[name] for name in expected)
