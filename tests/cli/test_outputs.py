"""No input is overwritten by any command, and no older output without a word."""

import os
import re
import shutil
from argparse import ArgumentParser, _SubParsersAction
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmfa.cli.main import _parser, main
from mmfa.motion import Motion
from mmfa.requests import REQUESTS
from mmfa.session import Session

WRITES_NOTHING = {"info"}
OF_A_FILE = {"run"}  # what it writes, and whether over older files, its JSON says


def commands() -> dict[str, ArgumentParser]:
    """Every command of the program, by name."""
    (action,) = (action for action in _parser()._actions if isinstance(action, _SubParsersAction))
    return dict(action.choices)


@dataclass(frozen=True)
class Place:
    """Good inputs, in a folder that may be written."""

    photo: Path
    driving: Path
    motion: Path
    folder: Path


@pytest.fixture
def place(portrait, short_driving, tmp_path) -> Place:
    photo, driving, motion = (tmp_path / name for name in ("me.png", "talk.mp4", "still.safetensors"))
    shutil.copy(portrait, photo)
    shutil.copy(short_driving, driving)
    Motion(
        rotation=torch.eye(3).expand(2, 3, 3),
        scale=torch.full((2, 1), 0.5),
        translation=torch.zeros(2, 3),
        expression=torch.zeros(2, 64),
    ).save(motion)
    return Place(photo, driving, motion, tmp_path)


@pytest.fixture(autouse=True)
def _model_loaded_once(animator, monkeypatch) -> None:
    monkeypatch.setattr(Session, "from_pretrained", classmethod(lambda cls, *a, **k: animator.session))


@pytest.fixture
def no_work(monkeypatch) -> None:
    """What is refused is refused before the work."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work was begun")

    monkeypatch.setattr(Session, "from_pretrained", work)


def run(*words: object) -> int:
    return main([str(word) for word in words])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run(*words) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("mmfa: ") and lines[0].endswith("."), captured.err
    return lines[0]


def test_every_command_says_what_it_writes() -> None:
    for name, parser in commands().items():
        if name not in WRITES_NOTHING | OF_A_FILE:
            assert parser.get_default("files") is not None or parser.get_default("request") in REQUESTS, name
            assert "--no-clobber" in parser.format_help(), name


@pytest.mark.parametrize(
    "words",
    [
        "animate {photo} {driving} -o {driving}",
        "motion {motion} -o {motion}",
        "edit {photo} -o {photo} --yaw 5",
        "edit {photo} -o {driving} --from {driving}",
        "edit {photo} -o {other} --expression {other}",
        "edit {photo} -o {driving} --expression {driving}@0.4",
        "canonical {other} {photo} -o {photo}",
        "interpolate {photo} --from neutral --via {other} --to source -o {other}",
        "interpolate {photo} --from neutral --to {driving}@0.2 -o {driving}",
        "sample {photo} -o {photo}",
        "demo -o {folder}/demo --source {folder}/demo/demo.png",
        "prepare {folder}/set/sheet.png -o {folder}/set",
        "evaluate {folder} -o {folder}/report --pairs {folder}/report/pairs.csv",
        "compare {folder}/report/report.json {folder}/report/report.md -o {folder}/report/report.json",
    ],
)
def test_an_input_is_never_overwritten(place, no_work, capsys, words) -> None:
    other = place.folder / "you.png"
    shutil.copy(place.photo, other)
    for name in ("demo/demo.png", "set/sheet.png", "report/pairs.csv", "report/report.json", "report/report.md"):
        (place.folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(place.photo, place.folder / name)
    before = {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()}
    names = {"photo": place.photo, "driving": place.driving, "motion": place.motion, "folder": place.folder, "other": other}
    assert "will not be overwritten" in refused(capsys, *(word.format(**names) for word in words.split()))
    assert {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("linked", ["output", "input"])
def test_links_do_not_hide_an_input(place, no_work, capsys, link, linked) -> None:
    other = place.folder / "other.png"
    link(place.photo, other)
    photo, output = (place.photo, other) if linked == "output" else (other, place.photo)
    assert f"the same file as the input {photo}" in refused(capsys, "edit", photo, "-o", output, "--yaw", 5)


def test_a_models_files_are_inputs(place, no_work, capsys) -> None:
    folder = place.folder / "model"
    shutil.copytree(str(files("mmfa") / "models" / "lite"), folder)
    weights = folder / "model.safetensors"
    before = weights.read_bytes()
    assert "is an input" in refused(capsys, "motion", place.driving, "-o", weights, "--model", folder)
    own = Path(str(files("mmfa") / "models" / "lite" / "model.safetensors"))
    assert "is an input" in refused(capsys, "motion", place.driving, "-o", own)
    assert weights.read_bytes() == before == own.read_bytes()


def test_training_does_not_overwrite_what_it_starts_from(place, capsys) -> None:
    model = place.folder / "run" / "model"
    shutil.copytree(str(files("mmfa") / "models" / "lite"), model)
    config = place.folder / "train.yaml"
    config.write_text(f"data: {place.folder}\noutput: {model.parent}\ninit: {model}\n")
    assert "will not be overwritten" in refused(capsys, "train", config)
    config.write_text(f"data: {place.folder / 'nowhere'}\noutput: {place.folder / 'other'}\ninit: {model}\n")
    assert "overwritten" not in refused(capsys, "train", config)  # but for another reason


def test_no_clobber_refuses_before_the_work(place, no_work, capsys) -> None:
    old = place.folder / "old.png"
    old.write_bytes(b"old")
    assert "old.png exists already" in refused(capsys, "edit", place.photo, "-o", old, "--yaw", 5, "--no-clobber")
    assert old.read_bytes() == b"old"
    for command in (["prepare", place.driving, "-o", place.folder], ["demo", "-o", place.folder / "demo"]):
        (place.folder / "demo").mkdir(exist_ok=True)
        (place.folder / "demo" / "demo.mp4").write_bytes(b"old")
        assert "exists already" in refused(capsys, *command, "--no-clobber")
    for name in ("train", "train-vae"):
        config = place.folder / f"{name}.yaml"
        (place.folder / "vae.json").write_text("{}")
        config.write_text(f"data: {place.folder}\noutput: {place.folder}\n" + "cache: x\n" * (name == "train-vae"))
        assert "exists already" in refused(capsys, name, config, "--no-clobber")


def test_an_older_output_is_replaced_with_a_sentence(place, capsys) -> None:
    output = place.folder / "out.png"
    edit = ["edit", place.photo, "-o", output, "--yaw", 5]
    assert run(*edit, "--no-clobber") == 0
    assert "replaced" not in capsys.readouterr().err
    assert run(*edit) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{output}: an older file was replaced." and len(lines) == 2
    assert run(*edit, "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_nothing_is_said_of_an_older_output_that_stays(place, capsys) -> None:
    output, blank = place.folder / "out.png", place.folder / "blank.png"
    output.write_bytes(b"old")
    Image.new("RGB", (64, 64)).save(blank)
    assert "No face" in refused(capsys, "edit", blank, "-o", output, "--yaw", 5)
    assert output.read_bytes() == b"old"


def test_an_edit_that_changes_nothing_is_refused(place, no_work, capsys) -> None:
    output = place.folder / "out.png"
    message = refused(capsys, "edit", place.photo, "-o", output)
    assert all(word in message for word in ("--from", "--yaw", "--expression", "--set", "--turntable"))
    assert not output.exists()


def test_a_full_disk_is_told_before_the_work(place, no_work, capsys, monkeypatch) -> None:
    usage = type(shutil.disk_usage(place.folder))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 8192, 8192))
    for words in (["edit", place.photo, "-o", place.folder / "x.png", "--yaw", 5],
                  ["animate", place.photo, place.motion, "-o", place.folder / "x.mp4"]):  # fmt: skip
        assert "the disk is full" in refused(capsys, *words)


# -- several faces ------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(place, clip_writer) -> tuple[Path, Path]:
    """A photo and a video of two faces."""
    photo = np.array(Image.open(place.photo).convert("RGB"))
    both = np.concatenate([photo, photo[:, ::-1]], 1)
    Image.fromarray(both).save(place.folder / "two.png")
    clip_writer(place.folder / "two.mp4", [both[::2, ::2].copy()] * 2, fps=25, sound=False)
    return place.folder / "two.png", place.folder / "two.mp4"


def test_several_faces_are_announced(place, two, capsys) -> None:
    photo, video = two
    picture, clip = place.folder / "out.png", place.folder / "out.mp4"
    for source, words in [
        (photo, ["edit", photo, "-o", picture, "--yaw", 5]),
        (photo, ["edit", place.photo, "-o", picture, "--from", photo, "--take", "rotation"]),
        (photo, ["edit", place.photo, "-o", picture, "--expression", photo]),
        (f"{video}@0.04", ["edit", place.photo, "-o", picture, "--expression", f"{video}@0.04"]),
        (photo, ["canonical", place.photo, photo, "-o", picture]),
        (photo, ["interpolate", photo, "--from", "neutral", "--to", "source", "--steps", 1, "-o", picture]),
        (photo, ["sample", photo, "--n", 1, "-o", picture]),
        (video, ["animate", place.photo, video, "-o", clip]),
        (video, ["motion", video, "-o", place.folder / "m.safetensors"]),
    ]:
        assert run(*words) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if "2 faces" in line]
        assert len(told) == 1 and told[0].startswith(str(source)), words


def test_a_face_that_is_not_there_is_asked_for_by_file(place, capsys) -> None:
    edit = ["edit", place.photo, "-o", place.folder / "x.png", "--yaw", 5]
    for words in (edit, ["motion", place.driving, "-o", place.folder / "x.safetensors"]):
        message = refused(capsys, *words, "--face", 1)
        assert message.startswith(f"mmfa: {words[1]}: face 1 was asked for, but only 1 found")


# -- values beyond all ranges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--yaw", "--pitch", "--roll", "--scale", "--tx", "--ty", "--intensity", "--lips"])
@pytest.mark.parametrize("value", ["1e9", "-1e9", "nan", "inf"])
def test_impossible_values_are_refused(place, no_work, capsys, option, value) -> None:
    message = refused(capsys, "edit", place.photo, "-o", place.folder / "x.png", f"{option}={value}")
    assert option.strip("-") in message


def test_the_help_names_suffixes_and_inputs() -> None:
    helps = {name: " ".join(parser.format_help().split()) for name, parser in commands().items()}
    assert all("examples:" in text and f"mmfa {name} " in text.rpartition("examples:")[2] for name, text in helps.items())
    for name in ("edit", "canonical", "interpolate", "sample"):
        assert ".png, .jpg, .webp, .bmp or .tif" in helps[name], name
    for name in ("animate", "edit", "interpolate", "sample"):
        assert ".mp4, .mov or .mkv" in helps[name], name
    assert "VIDEO@SECONDS is one frame of a video" in helps["edit"] and "VIDEO@SECONDS is one" in helps["interpolate"]


def test_examples_parse() -> None:
    for parser in commands().values():
        lines = (parser.epilog or "").splitlines()[1:]
        assert lines
        for line in lines:
            words = re.split(r"\s{2,}|>", line.strip())[0].split()
            _parser().parse_args(words[words.index("mmfa") + 1 :])
