"""``mmfa evaluate`` and ``mmfa compare`` as a user types them."""

import argparse
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mmfa.cli import evaluate as command
from mmfa.cli import main as program
from mmfa.evaluate.protocol import tasks_of
from mmfa.evaluate.validation import talking


@pytest.fixture(autouse=True)
def _commands(monkeypatch) -> None:
    parser = argparse.ArgumentParser(prog="mmfa")
    command.add_parser(parser.add_subparsers(required=True))
    monkeypatch.setattr(program, "_parser", lambda: parser)


@pytest.fixture(scope="module")
def data(clip_writer, tmp_path_factory) -> Path:
    """Two "persons" of three frames each, in the split "train"."""
    root = tmp_path_factory.mktemp("data")
    frames = [picture.frame() for picture in talking(72)[::12]]
    clip_writer(root / "one.mp4", frames[:3], fps=2, sound=False)
    clip_writer(root / "two.mp4", frames[3:], fps=2, sound=False)
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def predicted(data: Path, tmp_path: Path) -> Path:
    """What ``--list`` asks for: here the driving frames themselves."""
    root = tmp_path / "predicted"
    for task in tasks_of(data, protocol="same", split="train"):
        (root / task.name).mkdir(parents=True)
        for number, frame in enumerate(task.driving.read(), 1):
            Image.fromarray(frame).save(root / task.name / f"{number:06d}.png")
    return root


def run(*arguments: object) -> int:
    return program.main([str(argument) for argument in arguments])


def refused(capsys, *arguments: object) -> str:  # noqa: ANN001
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("mmfa: "), lines
    return lines[0]


def test_the_list_names_what_is_expected(data: Path, capsys) -> None:
    assert run("evaluate", data, "--list", "--split", "train") == 0
    assert capsys.readouterr().out == "one\t3\t256x256\ntwo\t3\t256x256\n"
    assert run("evaluate", data, "--list", "--split", "train", "--protocol", "cross") == 0
    assert capsys.readouterr().out == "one--two\t3\t256x256\ntwo--one\t3\t256x256\n"


def test_predictions_and_copying_compared(data: Path, predicted: Path, cache: Path, tmp_path: Path, capsys) -> None:
    common = ("--split", "train", "--cache", cache)
    assert run("evaluate", data, "-o", tmp_path / "mine", "--predictions", predicted, *common) == 0
    printed = capsys.readouterr().out
    assert "| `psnr` ↑ | 100 |" in printed and "predictions `predicted`" in printed
    assert run("evaluate", data, "-o", tmp_path / "copy", "--copy-source", "--quiet", *common) == 0
    assert capsys.readouterr() == ("", "")
    reports = [tmp_path / name / "report.json" for name in ("mine", "copy")]
    assert run("compare", *reports) == 0
    table = capsys.readouterr().out
    assert "| metric | unit | predicted | copy-source |" in table and "| `psnr` ↑ | dB | **100** (100 to 100) |" in table
    assert run("compare", *reports, "-o", tmp_path / "table.md") == 0
    assert (tmp_path / "table.md").read_text() == table
    assert run("evaluate", data, "-o", tmp_path / "other", "--copy-source", "--quiet", "--stride", 2, *common) == 0
    assert "their stride differs, 1 and 2" in refused(capsys, "compare", reports[0], tmp_path / "other" / "report.json")
    assert "two or more" in refused(capsys, "compare", reports[0])
    assert "is no report" in refused(capsys, "compare", reports[0], data / "one.mp4")


def test_bad_input_is_one_sentence_and_leaves_nothing(data: Path, predicted: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    start = ("evaluate", data, "-o", out, "--split", "train")
    (tmp_path / "pairs.csv").write_text("source,driving\none,three\n")
    (tmp_path / "file").write_text("in the way")
    shutil.copytree(predicted, tmp_path / "short")
    (tmp_path / "short" / "one" / "000002.png").unlink()
    for arguments, word in (
        (("evaluate", data, "-o", out), "no clip in the split 'val'; splits with clips: train"),
        (("evaluate", data, "--split", "train"), "Add -o REPORT_FOLDER"),
        (("evaluate", tmp_path / "none", "-o", out), "is not a folder with a data set"),
        ((*start, "--predictions", tmp_path / "none"), "is not a folder with generated clips"),
        ((*start, "--predictions", tmp_path / "short"), "lacks the frame 000002 of 3"),
        ((*start, "--predictions", predicted, "--protocol", "cross"), "lacks 2 clips (one--two, two--one)"),
        ((*start, "--protocol", "cross", "--pairs", tmp_path / "pairs.csv"), "no driving clip 'three'"),
        ((*start, "--pairs", tmp_path / "pairs.csv"), "add --protocol cross"),
        ((*start, "--model", "lote"), "Unknown model 'lote'"),
        ((*start, "--stride", "9"), "leaves none to measure"),
        (("evaluate", data, "-o", tmp_path / "file", "--split", "train", "--copy-source"), "can't be made a folder"),
    ):
        assert word in refused(capsys, *arguments), arguments
    assert not out.exists()
