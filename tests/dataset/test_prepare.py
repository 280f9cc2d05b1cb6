"""``mmfa prepare`` from files to a data set: what is found, kept, left out and named; kills; other settings."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mmfa.cli.prepare import add_parser
from mmfa.dataset.extract import Extractor, Result
from mmfa.dataset.index import entries, read_index
from mmfa.dataset.prepare import Report, _sources, prepare
from mmfa.dataset.rows import Row
from mmfa.errors import ConfigError, FaceError, MediaError
from mmfa.geometry import matrix_to_euler
from mmfa.media.image import read_image
from mmfa.media.video import VideoReader
from mmfa.priors import identity
from mmfa.priors.detector import FaceDetector
from mmfa.priors.landmarks import FaceLandmarker, TrackedFace, detect_single
from mmfa.priors.roi import to_pixels

Made = tuple[Path, Report]
SIZE = 128


LANDMARKER, DETECTOR = FaceLandmarker(), FaceDetector()


def face_in(image: np.ndarray) -> TrackedFace:
    return detect_single(image, landmarker=LANDMARKER, detector=DETECTOR)


def rows_of(root: Path, source: str) -> list[Row]:
    return sorted((row for row in read_index(root) if row.source == source), key=lambda row: (row.start, row.name))


def test_a_cut_ends_a_shot_at_the_frame_where_it_is(made: Made) -> None:
    shots = rows_of(made[0], "cut.mp4")
    assert [(row.frames, row.start) for row in shots] == [(15, 0.0), (20, 0.6), (15, 1.4)]


def test_two_faces_beside_each_other_become_two_clips(made: Made) -> None:
    left, right = rows_of(made[0], "both.mp4")
    assert left.frames == right.frames == 12
    pictures = [read_first(made[0] / row.file) for row in (left, right)]
    assert np.abs(pictures[0].astype(float) - pictures[1]).mean() > 20


def test_what_is_left_out_is_counted_by_its_reason(made: Made) -> None:
    report = made[1]
    assert report.rejected == {"short": 1, "small": 1, "blurred": 1}
    assert report.faceless == 1
    assert len(report.unreadable) == 1 and "corrupt.mp4" in report.unreadable[0]
    text = str(report)
    for word in ("corrupt.mp4", "the face is too small", "the face is blurred", "6 clips", "1 images"):
        assert word in text


def test_a_clip_shows_its_range_of_the_source_with_the_face_at_half_of_the_side(made: Made, sources: Path) -> None:
    row = rows_of(made[0], "cut.mp4")[2]
    with VideoReader(made[0] / row.file) as clip:
        frames = [frame.image for frame in clip]
        assert (clip.info.width, clip.info.height, float(clip.info.fps)) == (SIZE, SIZE, 25)
    assert len(frames) == row.frames
    with VideoReader(sources / "cut.mp4") as video:
        around = [frame.image for frame in video][25:]
    shapes = torch.stack([shape_of(image)[0] for image in around])
    for index in (0, 7, 14):
        shape, side = shape_of(frames[index])
        assert 0.35 * SIZE < side < 0.75 * SIZE
        nearest = 25 + int((shapes - shape).flatten(1).norm(dim=1).argmin())
        assert abs(nearest - (round(row.start * 25) + index)) <= 1


def test_the_landmarks_lie_on_the_face_of_the_clip_and_the_pose_is_theirs(made: Made) -> None:
    entry = next(entry for entry in entries(made[0]) if entry.name.startswith("cut-"))
    assert entry.landmarks is not None
    stored = load_file(entry.landmarks)
    count = rows_of(made[0], "cut.mp4")[0].frames
    shapes = {key: tuple(value.shape) for key, value in stored.items()}
    frame_shapes = {"landmarks": (478, 3), "score": (), "rotation": (3, 3), "scale": (1,), "translation": (3,)}
    assert shapes == {key: (count, *shape) for key, shape in frame_shapes.items()}
    with VideoReader(entry.path) as clip:
        measured = [face_in(frame.image).points for frame in clip]
    error = (torch.stack(measured) - stored["landmarks"].float())[..., :2].norm(dim=-1) * (SIZE - 1) / 2
    assert float(error.mean()) < 0.6
    _, yaw, _ = matrix_to_euler(stored["rotation"])
    low, high = rows_of(made[0], "cut.mp4")[0].yaw
    assert (round(float(yaw.min()), 1), round(float(yaw.max()), 1)) == (low, high)


def test_a_fast_video_is_thinned_and_keeps_its_pace(made: Made) -> None:
    (row,) = rows_of(made[0], "deep/er/fast.mp4")
    assert (row.fps, row.frames, row.seconds) == (25.0, 15, 0.6)
    with VideoReader(made[0] / row.file) as clip:
        assert clip.info.fps == 25


def test_a_picture_becomes_an_image_with_landmarks(made: Made, portrait: Path) -> None:
    (row,) = rows_of(made[0], "photo.jpg")
    (entry,) = entries(made[0], kind="image")
    assert (row.kind, row.frames, row.fps, row.name) == ("image", 1, None, entry.name)
    image = read_image(entry.path)
    assert image.shape == (SIZE, SIZE, 3)
    assert entry.landmarks is not None
    stored = load_file(entry.landmarks)["landmarks"].float()
    error = (face_in(image).points - stored[0])[:, :2].norm(dim=-1) * (SIZE - 1) / 2
    assert float(error.mean()) < 0.8
    face = face_in(read_image(portrait)).points
    assert row.face_width == pytest.approx(
        float(to_pixels(face, 512, 512)[:468, 0].max() - to_pixels(face, 512, 512)[:468, 0].min()), abs=3
    )


def test_the_contact_sheet_has_a_tile_for_each(made: Made) -> None:
    assert read_image(made[0] / "sheet.png").shape == (128, 7 * 132 - 4, 3)


def test_splits_share_no_person_and_both_are_there(made: Made) -> None:
    rows = read_index(made[0])
    train, val = ({row.person for row in rows if row.split == split} for split in ("train", "val"))
    assert train and val and not train & val
    assert made[1].val_people == len(val) and made[1].people == len(train | val)


def test_a_killed_run_goes_on_and_makes_the_same_data_set(sources: Path, made: Made, options: dict, tmp_path: Path) -> None:
    root = tmp_path / "dataset"
    code = (
        "import sys; from pathlib import Path; from mmfa.dataset.prepare import prepare; "
        f"prepare(Path(sys.argv[1]), Path(sys.argv[2]), people='video', val=0.3, shards=0.05, **{options!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(sources), str(root)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    # The longest video is worked on when the first result, of those before it, is there.
    deadline = time.monotonic() + 120
    while not list(root.glob("work/both-*.json")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path.name: path.stat().st_mtime_ns for path in (root / "work").glob("*-*.json")}
    assert 1 <= len(finished) < 9
    assert not (root / "index.jsonl").exists()
    (root / "clips" / ".0123456789abcdef.mp4").write_bytes(b"what a kill leaves")

    prepare(sources, root, people="video", val=0.3, shards=0.05, workers=2, **options)

    for name, changed in finished.items():
        assert (root / "work" / name).stat().st_mtime_ns == changed
    assert (root / "index.jsonl").read_bytes() == (made[0] / "index.jsonl").read_bytes()
    assert sorted(path.name for path in (root / "clips").iterdir()) == sorted(path.name for path in (made[0] / "clips").iterdir())


def test_a_second_run_reads_nothing_again_and_may_split_anew(sources: Path, made: Made, options: dict, tmp_path: Path) -> None:
    root = tmp_path / "dataset"
    shutil.copytree(made[0], root)
    report = prepare(sources, root, people="video", val=0.0, **options)
    assert report.source_seconds == 0
    assert {row.split for row in read_index(root)} == {"train"}


def test_a_source_that_changed_is_done_again(carphone_frames: list, clip_writer, options: dict, tmp_path: Path) -> None:
    video = tmp_path / "talk.mp4"
    clip_writer(video, carphone_frames[:12], fps=25, sound=False)
    prepare(video, tmp_path / "made", **options)
    clip_writer(video, carphone_frames[:14], fps=25, sound=False)
    prepare(video, tmp_path / "made", **options)
    assert [row.frames for row in read_index(tmp_path / "made")] == [14]


def test_what_is_missing_or_failed_for_no_fault_of_the_file_is_done_again(
    carphone_frames: list,
    clip_writer,
    options: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip_writer(tmp_path / "talk.mp4", carphone_frames[:12], fps=25, sound=False)
    clip_writer(tmp_path / "other.mp4", carphone_frames[60:72], fps=25, sound=False)
    run, video = partial(prepare, tmp_path, tmp_path / "made", people="video", **options), Extractor._video

    def full(self: Extractor, path: Path, *rest: Any) -> Result:
        if path.name == "talk.mp4":
            raise MemoryError
        return video(self, path, *rest)

    monkeypatch.setattr(Extractor, "_video", full)
    report = run()
    assert report.clips == 1 and "not enough memory" in report.unreadable[0] and "talk.mp4" in report.unreadable[0]
    monkeypatch.undo()
    assert run().clips == 2
    (tmp_path / "made" / read_index(tmp_path / "made")[0].landmarks).unlink()
    assert run().source_seconds == pytest.approx(12 / 25)  # the one file whose landmarks were gone
    assert all((tmp_path / "made" / row.landmarks).exists() for row in read_index(tmp_path / "made"))


@pytest.mark.parametrize(("option", "value"), [("size", 64), ("fps", 12.0), ("min_seconds", 0.1)])
def test_other_settings_need_another_folder(sources: Path, made: Made, option: str, value: float, options: dict) -> None:
    with pytest.raises(ConfigError, match=f"{option} .*-o"):
        prepare(sources, made[0], **{**options, option: value})


def test_the_output_may_lie_in_the_folder_of_videos(carphone_frames: list, clip_writer, options: dict, tmp_path: Path) -> None:
    clip_writer(tmp_path / "talk.mp4", carphone_frames[:12], fps=25, sound=False)
    for _ in range(2):
        assert prepare(tmp_path, tmp_path / "dataset", **options).clips == 1


def test_linked_folders_are_searched_and_the_output_is_not(tmp_path: Path) -> None:
    videos, disk, made = (tmp_path / name for name in ("videos", "disk", "made"))
    for file in (videos / "ann" / "a.mp4", disk / "bob" / "b.mp4", made / "clips" / "c.mp4"):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
    for name, target in (("more", disk), ("again", videos), ("made", made)):
        (videos / name).symlink_to(target, target_is_directory=True)
    found = _sources(videos, made)[1]
    assert [path.relative_to(videos).as_posix() for path in found] == ["ann/a.mp4", "more/bob/b.mp4"]


@pytest.mark.parametrize("name", ["sheet.png", "index.jsonl"])
def test_what_it_did_not_make_is_not_overwritten(portrait: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"holds {name}, .*another folder with -o"):
        prepare(portrait, tmp_path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"


@pytest.mark.skipif(not identity.available(), reason="needs the identity network")
def test_faces_tell_persons_apart(sources: Path, made: Made, options: dict, tmp_path: Path) -> None:
    root = tmp_path / "dataset"
    shutil.copytree(made[0], root)
    report = prepare(sources, root, people="identity", **options)
    assert report.people == 2
    cut, both = rows_of(root, "cut.mp4"), rows_of(root, "both.mp4")
    man, woman = cut[0].person, cut[1].person
    assert man != woman and cut[2].person == man
    assert {row.person for row in both} == {man, woman}
    assert rows_of(root, "deep/er/fast.mp4")[0].person == man
    assert rows_of(root, "photo.jpg")[0].person == woman
    assert {row.split for row in read_index(root)} == {"train", "val"}


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="does not exist"):
        prepare(tmp_path / "none", tmp_path / "made", quiet=True)
    (tmp_path / "sub").mkdir()
    with pytest.raises(MediaError, match="contains no video and no picture"):
        prepare(tmp_path / "sub", tmp_path / "made", quiet=True)
    (tmp_path / "sub" / "bad.mp4").write_bytes(b"bad")
    with pytest.raises(MediaError, match=r"None of the 1 files.*bad\.mp4"):
        prepare(tmp_path / "sub", tmp_path / "made", quiet=True)
    assert not (tmp_path / "made" / "index.jsonl").exists()


def test_no_face_and_none_usable_are_said(portrait: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (100, 100), (90, 120, 150)).save(folder / "sky.png")
    with pytest.raises(FaceError, match="No face was found in any of the 1 readable files"):
        prepare(folder, tmp_path / "made", quiet=True)
    shutil.copy(portrait, folder / "photo.png")
    with pytest.raises(FaceError, match=r"rejected \(1 small\).*--min-face"):
        prepare(folder, tmp_path / "other", quiet=True, min_face=400)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("size", 63, "even"),
        ("fps", 0, "frame rate"),
        ("min_face", float("nan"), "smallest face"),
        ("val", 1.5, "share"),
        ("workers", 0, "worker"),
        ("shards", 0, "shard"),
    ],
)
def test_options_out_of_range_are_refused_before_the_work(tmp_path: Path, option: str, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepare(tmp_path, tmp_path / "made", **{option: value})
    assert not (tmp_path / "made").exists()


def test_the_command_prints_the_report(portrait: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "PERSON_1"
    folder.mkdir()
    shutil.copy(portrait, folder / "photo.png")
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    options = parser.parse_args(["prepare", str(tmp_path), "-o", str(tmp_path / "made"), "--size", "512", "--min-face", "80"])
    options.run(options)
    assert "0 clips (0.0 minutes), 1 images, 1 persons" in capsys.readouterr().err
    (row,) = read_index(tmp_path / "made")
    assert (row.person, row.split) == ("PERSON_1", "train")
    assert load_file(tmp_path / "made" / row.landmarks)["landmarks"].dtype == torch.float32
    header = json.loads((tmp_path / "made" / "index.jsonl").read_text().splitlines()[0])
    assert header == {"format": "mmfa-dataset", "version": 1, "size": 512, "rows": 1}


def shape_of(image: np.ndarray) -> tuple[torch.Tensor, float]:
    """Landmarks (468,2) without position and size, and the longer side of their box in pixels."""
    points = to_pixels(face_in(image).points, *image.shape[:2])[:468, :2]
    centred = points - points.mean(0)
    return centred / centred.norm(), float((points.amax(0) - points.amin(0)).max())


def read_first(path: Path) -> np.ndarray:
    with VideoReader(path) as video:
        return next(iter(video)).image
