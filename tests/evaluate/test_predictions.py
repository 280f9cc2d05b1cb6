"""Folders of generated clips: the right frames are read, and everything that doesn't fit is named."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from mmfa.errors import MediaError
from mmfa.evaluate.predictions import Predictions
from mmfa.evaluate.protocol import Task, tasks_of
from mmfa.media.image import Array

FRAMES = 6


@pytest.fixture
def tasks(clip_writer, tmp_path: Path) -> list[Task]:
    """Two clips of six frames of 64 px, every second one measured."""
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        clip_writer(tmp_path / "data" / f"{name}.mp4", list(pictures(FRAMES)), fps=25, sound=False)
    return tasks_of(tmp_path / "data", protocol="same", split="train", stride=2)


@pytest.fixture
def folder(tasks: list[Task], tmp_path: Path) -> Path:
    """Good predictions: clip a as PNG, clip b as lossless RGB video."""
    root = tmp_path / "generated"
    (root / "a").mkdir(parents=True)
    for number, image in enumerate(pictures(FRAMES), 1):
        Image.fromarray(image).save(root / "a" / f"{number:06d}.png")
    encode(root / "b.mkv", pictures(FRAMES))
    return root


def pictures(count: int, *, size: int = 64) -> Array:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def encode(path: Path, frames: Array, *, codec: str = "ffv1", pixels: str = "bgr0") -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        for image in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))


def refused(folder: Path, tasks: list[Task]) -> str:
    with pytest.raises(MediaError) as error:
        Predictions(folder).check(tasks)
    return str(error.value)


def test_frames_are_the_measured_ones_and_untouched(folder: Path, tasks: list[Task]) -> None:
    predictions = Predictions(folder)
    predictions.check(tasks)
    for task in tasks:
        found = list(predictions.frames(task))
        assert np.array_equal(np.stack(found), pictures(FRAMES)[task.generated])
    assert predictions.remarks(tasks) == []


def test_the_key_is_the_content(folder: Path, tasks: list[Task], tmp_path: Path) -> None:
    before = [Predictions(folder).key(task) for task in tasks]
    folder.rename(tmp_path / "elsewhere")
    moved = Predictions(tmp_path / "elsewhere")
    assert [moved.key(task) for task in tasks] == before and before[0] != before[1]
    Image.fromarray(255 - pictures(1)[0]).save(moved.root / "a" / "000003.png")
    assert moved.key(tasks[0]) != before[0] and moved.key(tasks[1]) == before[1]


def test_loss_is_remarked(folder: Path, tasks: list[Task]) -> None:
    (folder / "b.mkv").unlink()
    encode(folder / "b.mp4", pictures(FRAMES), codec="libx264", pixels="yuv420p")
    assert "1 of 2 predicted clips were encoded with loss" in Predictions(folder).remarks(tasks)[0]
    (folder / "b.mp4").unlink()
    encode(folder / "b.mkv", pictures(FRAMES), pixels="yuv420p")  # keeps every value, but of a quarter of the colours
    assert Predictions(folder).remarks(tasks)
    for path in (folder / "a").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    Predictions(folder).check(tasks)
    assert "2 of 2" in Predictions(folder).remarks(tasks)[0]


def test_missing_extra_and_misnamed_clips(folder: Path, tasks: list[Task]) -> None:
    assert "is not a folder" in refused(folder / "none", tasks)
    (folder / "b.mkv").rename(folder / "B.mkv")
    assert "lacks the clip b;" in refused(folder, tasks)
    (folder / "B.mkv").rename(folder / "b.mkv")
    (folder / "c").mkdir()
    assert "the clip c that nothing asks for" in refused(folder, tasks)
    (folder / "c").rmdir()
    (folder / "notes.txt").write_text("made on Monday")
    Predictions(folder).check(tasks)
    encode(folder / "a.mkv", pictures(FRAMES))
    assert "the clip a more than once: a, a.mkv" in refused(folder, tasks)


def test_missing_extra_misnamed_and_damaged_frames(folder: Path, tasks: list[Task]) -> None:
    last = folder / "a" / "000006.png"
    last.rename(folder / "a" / "6.png")
    assert "lacks the frame 000006 of 6" in refused(folder, tasks)
    (folder / "a" / "6.png").rename(last)
    (folder / "a" / "000000.png").write_bytes(last.read_bytes())
    assert "holds the file 000000.png too many" in refused(folder, tasks)
    (folder / "a" / "000000.png").unlink()
    last.write_bytes(b"not a picture")
    assert "000006.png is not a picture" in refused(folder, tasks)
    Image.fromarray(pictures(1, size=32)[0]).save(last)
    assert "000006.png is 32 x 32, its driving clip 64 x 64" in refused(folder, tasks)
    last.unlink()
    for number in (2, 3, 4, 5):
        (folder / "a" / f"{number:06d}.png").unlink()
    assert "5 frames (000002, 000003, 000004, ...)" in refused(folder, tasks)


def test_values_that_are_not_numbers(folder: Path, tasks: list[Task]) -> None:
    (folder / "a" / "000003.png").unlink()
    for value, good in ((np.nan, False), (np.inf, False), (0.5, True)):
        Image.fromarray(np.full((64, 64), value, np.float32)).save(folder / "a" / "000003.tif")
        if good:
            Predictions(folder).check(tasks)
        else:
            assert "000003.tif contains values that are not numbers" in refused(folder, tasks)


@pytest.mark.parametrize("count", [FRAMES - 1, FRAMES + 1])
def test_a_video_of_another_length(folder: Path, tasks: list[Task], count: int) -> None:
    encode(folder / "b.mkv", pictures(count))
    with pytest.raises(MediaError, match=f"b.mkv has {count} frames, its driving clip b {FRAMES}"):
        list(Predictions(folder).frames(tasks[1]))
    encode(folder / "b.mkv", pictures(FRAMES, size=32))
    assert "b.mkv is 32 x 32" in refused(folder, tasks)


def test_postscript_among_the_frames_starts_no_ghostscript(
    folder: Path, tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **options: started.append(arguments))
    (folder / "a" / "000003.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    )
    assert "000003.png is not a picture that can be read" in refused(folder, tasks)
    assert not started


def test_a_list_of_other_files_is_no_prediction(folder: Path, tasks: list[Task]) -> None:
    (folder / "b.mkv").rename(folder / "real.ts")
    (folder / "b.mp4").write_text("ffconcat version 1.0\nfile real.ts\n")
    with pytest.raises(MediaError, match=r"b\.mp4 is not a video"):
        Predictions(folder).remarks(tasks)


@pytest.mark.parametrize("damage", ["cut", "float"])
def test_a_damaged_frame_is_one_sentence(folder: Path, tasks: list[Task], damage: str) -> None:
    path = folder / "a" / "000003.png"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:20])
    else:
        path.unlink()
        path = path.with_suffix(".tif")
        Image.fromarray(np.full((64, 64), 0.5, np.float32)).save(path)
        path.write_bytes(path.read_bytes()[:9000])
    assert path.name in refused(folder, tasks)
