"""Bad input to the command line: one sentence, exit status 2, and nothing left behind."""

import errno
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mmfa import animate
from mmfa.cli.main import main
from mmfa.media.video import VideoReader, VideoWriter
from mmfa.motion import Motion
from mmfa.session import Session


@dataclass(frozen=True)
class Place:
    """Good inputs, a folder `bad` for bad ones and an empty folder `out` for the output."""

    portrait: Path
    driving: Path
    bad: Path
    out: Path
    write_clip: Callable[..., None]

    @property
    def output(self) -> Path:
        return self.out / "out.mp4"


@pytest.fixture
def place(portrait, short_driving, clip_writer, tmp_path) -> Place:
    for name in ("bad", "out"):
        (tmp_path / name).mkdir()
    return Place(portrait, short_driving, tmp_path / "bad", tmp_path / "out", clip_writer)


@pytest.fixture(autouse=True)
def _model_loaded_once(animator, monkeypatch, request) -> None:
    """Every command otherwise loads the networks again; the tests about models keep the real loading."""
    if "real_loading" not in request.fixturenames:
        monkeypatch.setattr(Session, "from_pretrained", classmethod(lambda cls, *a, **k: animator.session))


@pytest.fixture
def real_loading() -> None:
    """Asked for by the tests about models."""


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run; assert status 2 and one sentence on stderr, which is returned."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("mmfa: "), captured.err
    assert captured.out == ""
    assert lines[0].rstrip().endswith((".", ")", "0")), "not a sentence: " + lines[0]
    return lines[0]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def saved(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path)
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def make_audio(place: Place) -> Path:
    path = place.bad / "sound.m4a"
    place.write_clip(path, [], fps=25, sound=True)
    return path


def make_noise_video(place: Place) -> Path:
    path = place.bad / "noise.mp4"
    place.write_clip(path, list(noise(8, 96, 96, 3)), fps=25, sound=False)
    return path


BAD_SOURCES: dict[str, tuple[Callable[[Place], Path], str]] = {
    "missing": (lambda p: p.bad / "none.png", "does not exist"),
    "folder": (lambda p: p.bad, "is a folder"),
    "text": (lambda p: written(p.bad / "me.png", b"I am no picture.\n"), "not a picture"),
    "video": (lambda p: p.driving, "not a picture"),
    "empty": (lambda p: written(p.bad / "empty.jpg", b""), "empty"),
    "truncated": (lambda p: written(p.bad / "cut.png", p.portrait.read_bytes()[:5000]), "damaged"),
    "one-pixel": (lambda p: saved(p.bad / "dot.png", noise(1, 1, 3)), "too small"),
    "no-face": (lambda p: saved(p.bad / "noise.png", noise(200, 200, 3)), "No face found"),
}

BAD_DRIVINGS: dict[str, tuple[Callable[[Place], Path], str]] = {
    "missing": (lambda p: p.bad / "none.mp4", "does not exist"),
    "folder": (lambda p: p.bad, "is a folder"),
    "photo": (lambda p: p.portrait, "not a video"),
    "text": (lambda p: written(p.bad / "talk.mp4", b"I am no video.\n"), "not a video"),
    "empty": (lambda p: written(p.bad / "empty.mp4", b""), "empty"),
    "header-only": (lambda p: written(p.bad / "head.mp4", p.driving.read_bytes()[:100]), "not a video"),
    "cut": (lambda p: written(p.bad / "cut.mp4", p.driving.read_bytes()[: int(0.4 * p.driving.stat().st_size)]), "not a video"),
    "sound-only": (make_audio, "video"),
    "no-face": (make_noise_video, "No face found"),
    "motion-damaged": (lambda p: written(p.bad / "m.safetensors", b"\x10" * 99), "not a motion file"),
    "motion-other": (lambda p: Path(str(files("mmfa") / "models/lite/model.safetensors")), "not an mmfa motion"),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_bad_source(place, capsys, case) -> None:
    make, reason = BAD_SOURCES[case]
    source = make(place)
    message = refused(capsys, "animate", source, place.driving, "-o", place.output)
    assert reason in message and source.name in message
    assert not list(place.out.iterdir())


@pytest.mark.parametrize("case", BAD_DRIVINGS)
def test_bad_driving(place, capsys, case) -> None:
    make, reason = BAD_DRIVINGS[case]
    driving = make(place)
    message = refused(capsys, "animate", place.portrait, driving, "-o", place.output)
    assert reason in message and driving.name in message
    assert not list(place.out.iterdir())


@pytest.mark.parametrize("case", [case for case in BAD_DRIVINGS if not case.startswith("motion")])
def test_bad_video_for_motion(place, capsys, case) -> None:
    make, reason = BAD_DRIVINGS[case]
    assert reason in refused(capsys, "motion", make(place), "-o", place.out / "m.safetensors")
    assert not list(place.out.iterdir())


@pytest.mark.parametrize(
    ("options", "reason"),
    [(["--face", "7"], "face 7"), (["--anchor", "9999"], "9999"), (["--anchor", "12"], "12 frames")],
)
def test_options_out_of_range(place, capsys, options, reason) -> None:
    assert reason in refused(capsys, "animate", place.portrait, place.driving, "-o", place.output, *options)
    assert not list(place.out.iterdir())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--mode", "both"], "both"),
        (["--mode", "rotation=sideways"], "sideways"),
        (["--smooth", "-1"], "strength"),
        (["--lips", "nan"], "lips"),
    ],
)
def test_values_that_mean_nothing(place, capsys, options, reason) -> None:
    assert reason in refused(capsys, "animate", place.portrait, place.driving, "-o", place.output, *options)
    assert not list(place.out.iterdir())


@pytest.mark.parametrize("options", [["--face", "-1"], ["--face", "x"], ["--anchor", "last"], ["--device", "abacus"]])
def test_options_that_mean_nothing(place, capsys, options) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["animate", str(place.portrait), str(place.driving), "-o", str(place.output), *options])
    assert stop.value.code == 2
    assert options[0] in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_motion_of_another_model(place, capsys, mode) -> None:
    turns, shifts = torch.eye(3).expand(5, 3, 3), torch.zeros(5, 3)
    motion = Motion(rotation=turns, scale=torch.ones(5, 1), translation=shifts, expression=torch.zeros(5, 3))
    file = place.bad / "other.safetensors"
    motion.save(file)
    message = refused(capsys, "animate", place.portrait, file, "-o", place.output, "--mode", mode)
    assert "3 expression features" in message
    assert not list(place.out.iterdir())


def test_empty_motion(place, capsys) -> None:
    file = place.bad / "empty.safetensors"
    tensors = {"rotation": (0, 3, 3), "scale": (0, 1), "translation": (0, 3), "expression": (0, 64)}
    save_file({k: torch.zeros(v) for k, v in tensors.items()}, str(file), metadata={"format": "mmfa-motion", "version": "1"})
    assert "no frames" in refused(capsys, "animate", place.portrait, file, "-o", place.output)
    assert not list(place.out.iterdir())


# -- models -------------------------------------------------------------------------------------------------------------


def test_unknown_model(real_loading, place, capsys) -> None:
    message = refused(capsys, "animate", place.portrait, place.driving, "-o", place.output, "--model", "huge")
    assert "huge" in message and "lite" in message
    assert not list(place.out.iterdir())
    assert "huge" in refused(capsys, "info", "huge")


@pytest.mark.parametrize("damage", ["truncated", "version", "no-weights", "config", "empty-folder"])
def test_damaged_model(real_loading, place, capsys, damage) -> None:
    folder = place.bad / "model"
    shutil.copytree(str(files("mmfa") / "models/lite"), folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:100_000])
    elif damage == "version":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"version": 99}))
    elif damage == "no-weights":
        weights.unlink()
    elif damage == "config":
        config.write_text("{")
    else:
        weights.unlink(), config.unlink()
    message = refused(capsys, "animate", place.portrait, place.driving, "-o", place.output, "--model", folder)
    assert str(folder) in message
    assert ("version 99" in message) == (damage == "version")
    assert not list(place.out.iterdir())


# -- outputs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: p.out / "nowhere" / "out.mp4", "does not exist"),
        (lambda p: p.bad, "suffix"),
        (lambda p: p.bad / "folder.mp4", "is a folder"),
        (lambda p: p.out / "out.gif", "suffix"),
        (lambda p: p.out / "out", "suffix"),
    ],
)
def test_bad_output_is_refused_before_the_work(place, capsys, monkeypatch, make, reason) -> None:
    (place.bad / "folder.mp4").mkdir()
    monkeypatch.setattr(Session, "photo", None)
    assert reason in refused(capsys, "animate", place.portrait, place.driving, "-o", make(place))
    assert not list(place.out.iterdir())


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_motion_needs_its_suffix(place, capsys, name) -> None:
    assert ".safetensors" in refused(capsys, "motion", place.driving, "-o", place.out / name)
    assert not list(place.out.iterdir())


def test_demo_folder_that_is_a_file(place, capsys) -> None:
    place.output.write_bytes(b"old")
    assert "cannot be made" in refused(capsys, "demo", "-o", place.output)
    assert place.output.read_bytes() == b"old"


def test_training_without_its_packages(place, capsys, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "mmfa.train.config", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "yaml: pip install 'mmfa[train]'" in refused(capsys, "train", place.bad / "train.yaml")


def test_full_disk_keeps_the_old_file(place, capsys, monkeypatch) -> None:
    place.output.write_bytes(b"old")
    write, count = VideoWriter.write, iter(range(99))

    def full(self: VideoWriter, image: np.ndarray) -> None:
        if next(count) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, image)

    monkeypatch.setattr(VideoWriter, "write", full)
    assert "disk is full" in refused(capsys, "animate", place.portrait, place.driving, "-o", place.output)
    assert [p.name for p in place.out.iterdir()] == ["out.mp4"] and place.output.read_bytes() == b"old"


def test_interrupt_leaves_nothing(place, capsys, monkeypatch) -> None:
    write, written = VideoWriter.write, []

    def interrupted(self: VideoWriter, image: np.ndarray) -> None:
        written.append(image)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(self, image)

    monkeypatch.setattr(VideoWriter, "write", interrupted)
    assert main(["animate", str(place.portrait), str(place.driving), "-o", str(place.output)]) == 130
    assert capsys.readouterr().err == "mmfa: interrupted; no unfinished file was left.\n"
    assert not list(place.out.iterdir())


# -- odd but good -------------------------------------------------------------------------------------------------------


def test_one_frame_video(place, carphone_frames) -> None:
    driving = place.bad / "one.mp4"
    place.write_clip(driving, carphone_frames[:1], fps=25, sound=False)
    assert main(["animate", str(place.portrait), str(driving), "-o", str(place.output), "--quiet"]) == 0
    assert len(list(VideoReader(place.output))) == 1


def test_cut_video_with_its_index_in_front(place, capsys) -> None:
    """A download that broke off: what is there is animated."""
    whole, cut = place.bad / "whole.mkv", place.bad / "cut.mkv"
    place.write_clip(whole, [frame.image for frame in VideoReader(place.driving)], fps=25, sound=False)
    written(cut, whole.read_bytes()[: int(0.4 * whole.stat().st_size)])
    assert main(["animate", str(place.portrait), str(cut), "-o", str(place.output)]) == 0
    assert 1 <= len(list(VideoReader(place.output))) < 12
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("face", [0, 1])
def test_several_faces(place, capsys, carphone_frames, face) -> None:
    photo = np.array(Image.open(place.portrait).convert("RGB"))
    source = saved(place.bad / "two.png", np.concatenate([photo, photo[:, ::-1]], 1))
    driving = place.bad / "one.mp4"
    place.write_clip(driving, carphone_frames[:1], fps=25, sound=False)
    assert main(["animate", str(source), str(driving), "-o", str(place.output), "--face", str(face)]) == 0
    error = capsys.readouterr().err
    assert "2 faces" in error and f"number {face}" in error


def test_huge_picture_without_a_face(place, capsys) -> None:
    source = place.bad / "grey.png"
    Image.new("L", (10_000, 10_000), 128).save(source, compress_level=1)
    start = time.process_time()
    assert "No face" in refused(capsys, "animate", source, place.driving, "-o", place.output)
    assert time.process_time() - start < 15
    assert not list(place.out.iterdir())


def test_a_large_photo_is_reduced_as_the_docs_say(place, animator) -> None:
    photo = Image.open(place.portrait).convert("RGB").resize((3000, 3000))
    source = place.bad / "large.png"
    photo.save(source, compress_level=1)
    height, width, _ = animator.set_source(source).image.shape
    assert height == width == animate.RESOLUTION == 1920
