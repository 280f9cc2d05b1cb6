"""Long driving videos: rendered while they are tracked, after a first look, in memory that does not grow."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmfa.animate import AnimateReport, Animator
from mmfa.driving import Rows, SignalBuffer
from mmfa.edit import Edit, Span
from mmfa.errors import FaceError, MediaError
from mmfa.media.image import Array
from mmfa.media.video import VideoReader
from mmfa.motion import Motion
from mmfa.priors.landmarks import FaceTracker, TrackedFace
from mmfa.watch import Progress, Watch


@pytest.fixture
def ready(animator, portrait) -> Animator:
    animator.set_source(portrait)
    return animator


@pytest.fixture(scope="module")
def driving(carphone_frames, clip_writer, tmp_path_factory) -> Path:
    """Twenty frames of carphone, two of them without a face, one of those the first."""
    grey = np.full_like(carphone_frames[0], 128)
    frames = [grey, *carphone_frames[:90:6], grey, *carphone_frames[90:108:6]]
    path = tmp_path_factory.mktemp("long") / "talk.mp4"
    clip_writer(path, frames, fps=10, sound=True)
    return path


def animated(animator: Animator, driving: Path, folder: Path, **options: object) -> tuple[list[Array], AnimateReport]:
    report = animator.animate(driving, folder / "out.mp4", **options)  # type: ignore[arg-type]
    with VideoReader(folder / "out.mp4") as video:
        assert video.info.has_audio
        return [frame.image for frame in video], report


def landmarks(frames: list[Array]) -> tuple[torch.Tensor, float]:
    """The face in every frame (T,468,2), and its mean height."""
    tracker = FaceTracker()
    points = torch.stack([tracker.track(frame).points[:468, :2] for frame in frames])  # type: ignore[union-attr]
    return points, float((points[..., 1].amax(1) - points[..., 1].amin(1)).mean())


def test_relative_motion_is_what_the_whole_clip_gives(ready, driving, tmp_path) -> None:
    """The crop of the driver drops out of its change; the photo's own crop, which room for the head may move, is another's."""
    whole, one = animated(ready, driving, tmp_path, anchor=7, smoothing=0)
    streamed, other = animated(ready, driving, tmp_path, anchor=7, smoothing=0, glance=12)
    assert len(streamed) == len(whole) == 20
    assert (one.frames, one.fps, one.held, one.anchor) == (other.frames, other.fps, other.held, other.anchor)
    assert one.held == 2 and one.anchor == 7
    (faces, height), (others, _) = landmarks(whole), landmarks(streamed)
    assert float((faces - others).norm(dim=-1).mean()) < 0.006 * height
    assert float(faces.std(0).norm(dim=-1).mean()) > 0.05 * height, "the head must move for that to mean something"


def test_absolute_motion_has_the_size_and_place_of_the_whole_clips(ready, driving, tmp_path) -> None:
    """Up to the crop around all places of the face, of which a first look sees only some."""
    whole, _ = animated(ready, driving, tmp_path, mode="absolute", smoothing=0)
    streamed, _ = animated(ready, driving, tmp_path, mode="absolute", smoothing=0, glance=12)
    (faces, height), (others, _) = landmarks(whole), landmarks(streamed)
    assert float((faces - others).norm(dim=-1).mean()) < 0.05 * height


def test_the_first_frame_comes_after_the_first_look(ready, driving, tmp_path, monkeypatch) -> None:
    tracked: list[int] = []
    track, at = FaceTracker.track, dict[int, int]()

    def counted(self: FaceTracker, image: Array) -> TrackedFace | None:
        tracked.append(1)
        return track(self, image)

    monkeypatch.setattr(FaceTracker, "track", counted)
    ready.animate(driving, tmp_path / "o.mp4", glance=10, on_frame=lambda n, _: at.setdefault(n, len(tracked)), anchor="first")
    assert at[0] <= 10 + 2, "looked at 10, then one frame without a face and one with"
    assert at[19] == at[0] + 18, "afterwards one frame is tracked for each that is rendered"


def test_an_edit_is_rendered_while_it_is_tracked(ready, driving, tmp_path, monkeypatch) -> None:
    """What is taken of the driver and what is set by hand hold frame by frame, as for the whole clip."""
    edit = Edit(yaw=8.0, expression="neutral")
    chosen: dict[str, Any] = {"attributes": ["rotation", "translation"], "edit": edit, "anchor": 7, "smoothing": 0}
    whole, _ = animated(ready, driving, tmp_path, **chosen)
    tracked: list[int] = []
    track, at = FaceTracker.track, dict[int, int]()

    def counted(self: FaceTracker, image: Array) -> TrackedFace | None:
        tracked.append(1)
        return track(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(FaceTracker, "track", counted)
        streamed, report = animated(
            ready, driving, tmp_path, glance=12, on_frame=lambda n, _: at.setdefault(n, len(tracked)), **chosen
        )
    assert report.frames == 20 and at[0] <= 12 + 2 and at[19] == at[0] + 18
    (faces, height), (others, _) = landmarks(whole), landmarks(streamed)
    assert float((faces - others).norm(dim=-1).mean()) < 0.006 * height
    assert float(faces.std(0).norm(dim=-1).mean()) > 0.05 * height, "the head must move for that to mean something"


@pytest.mark.parametrize("chosen", [{"edit": Edit(yaw=5.0), "span": Span(start=0.5)}, {"edit": "clip"}], ids=["span", "clip"])
def test_an_edit_that_differs_from_frame_to_frame_is_applied_to_the_whole(ready, driving, tmp_path, chosen) -> None:
    if chosen["edit"] == "clip":
        chosen = {"edit": Edit(expression=ready.photo.signal.expand(20))}
    seen: list[Progress] = []
    ready.animate(driving, tmp_path / "o.mp4", glance=12, watch=Watch(on_progress=seen.append), **chosen)
    assert {progress.stage for progress in seen} == {"motion", "render"}


def test_the_automatic_anchor_is_a_frame_that_was_looked_at(ready, driving, tmp_path) -> None:
    with VideoReader(driving) as reader:
        numbers = [round(frame.time * 10) for frame in reader.glance(12)]
    report = ready.animate(driving, tmp_path / "o.mp4", glance=12)
    assert report.anchor in numbers
    whole = ready.session.anchor_index(ready.photo, ready.motion_of(driving).signal)
    assert abs(report.anchor - whole) <= 20 // 10


def test_an_anchor_outside_or_without_a_face_is_refused_and_nothing_written(ready, driving, tmp_path) -> None:
    with pytest.raises(MediaError, match="anchor frame 20 is outside the driving video of 20 frames"):
        ready.animate(driving, tmp_path / "o.mp4", glance=12, anchor=20)
    with pytest.raises(FaceError, match=r"anchor frame 16 of .* shows no face"):
        ready.animate(driving, tmp_path / "o.mp4", glance=12, anchor=16)
    assert not list(tmp_path.iterdir())


def test_no_face_anywhere(ready, clip_writer, tmp_path) -> None:
    clip_writer(tmp_path / "grey.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 30, fps=10, sound=False)
    with pytest.raises(FaceError, match=r"No face found in .*grey\.mp4"):
        ready.animate(tmp_path / "grey.mp4", tmp_path / "o.mp4", glance=10)
    assert not (tmp_path / "o.mp4").exists()


# -- a first look -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "most"), [(30, 12), (30, 30), (200, 30), (200, 45)])
def test_a_glance_is_spread_over_the_video(carphone_frames, clip_writer, tmp_path, count, most) -> None:
    """The writer makes every fourth frame a key frame, at most: 30 frames have too few of them, 200 frames enough."""
    frames = (carphone_frames + carphone_frames[::-1])[:count]
    clip_writer(tmp_path / "talk.mp4", frames, fps=25, sound=False)
    with VideoReader(tmp_path / "talk.mp4") as reader:
        every = list(reader)
        seen = list(reader.glance(most))
    assert most / 2 - 1 <= len(seen) <= most
    numbers = [round(frame.time * 25) for frame in seen]
    assert numbers[0] == 0 and numbers[-1] >= 0.8 * count
    assert max(np.diff(numbers)) <= 3 * count / most
    for number, frame in zip(numbers, seen, strict=True):
        assert np.array_equal(frame.image, every[number].image), number


# -- memory -------------------------------------------------------------------------------------------------------------


def test_motions_are_kept_in_a_few_arrays(window_motions: list[Motion]) -> None:
    buffer: SignalBuffer[Motion] = SignalBuffer()
    for motion in window_motions:
        buffer.append(motion)
    whole, wanted = buffer.signal(), Motion.concatenate(window_motions)
    for name in ("rotation", "scale", "translation", "expression", "intensity"):
        assert torch.equal(getattr(whole, name), getattr(wanted, name)), name


@pytest.fixture(scope="module")
def window_motions(animator, carphone_frames) -> list[Motion]:
    motion = animator.motion_of(islice(carphone_frames, 9)).signal
    return [motion[0], motion[1:4], *(motion[i] for i in range(4, 9))]


def test_rows_take_twice_their_size_at_most() -> None:
    rows = Rows()
    for number in range(5000):
        rows.append(torch.full((1, 7), float(number)))
    assert torch.equal(rows.rows()[:, 0], torch.arange(5000.0))
    assert rows.rows().untyped_storage().nbytes() <= 2 * 5000 * 7 * 4 + 64 * 7 * 4
