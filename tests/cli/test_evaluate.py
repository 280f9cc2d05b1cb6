"""``mmfa evaluate`` and ``mmfa compare`` as a user types them."""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
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


def refused(capsys, *arguments: object) -> str:
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
    common = ("--split", "train", "--stride", 1, "--cache", cache)
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
    assert run("evaluate", data, "-o", tmp_path / "other", "--copy-source", "--quiet", *common, "--stride", 2) == 0
    assert "their stride differs, 1 and 2" in refused(capsys, "compare", reports[0], tmp_path / "other" / "report.json")
    assert "two or more" in refused(capsys, "compare", reports[0])
    assert "is no report" in refused(capsys, "compare", reports[0], data / "one.mp4")


def test_options_that_do_not_fit_leave_nothing(data: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    start = ("evaluate", data, "-o", out, "--split", "train", "--stride", 1)
    (tmp_path / "pairs.csv").write_text("source,driving\none,three\n")
    (tmp_path / "file").write_text("in the way")
    for arguments, word in (
        (("evaluate", data, "-o", out, "--split", "val"), "no clip in the split 'val'; splits with clips: train"),
        (("evaluate", data, "-o", out), "one.mp4 has 3 frames: --stride 4 leaves none; take a smaller one"),
        ((*start, "--copy-source", "--workers", 0), "The number of workers must be 1 or more, got 0"),
        ((*start, "--copy-source", "--seed", -1), "The seed must be 0 or more, got -1"),
        ((*start, "--copy-source", "--rank", "beauty"), "Clips can't be ranked by 'beauty'; choose from csim, "),
        ((*start, "--copy-source", "--rank", "psnr", "--protocol", "cross"), "can't be ranked by 'psnr'; choose from csim, "),
        ((*start, "--copy-source", "--rank", "csim_faceres"), "can't be ranked by 'csim_faceres'; choose from csim, "),
        ((*start, "--copy-source", "--cache", out / "kept"), "would lie in the report's own folder"),
        ((*start, "--copy-source", "--cache", tmp_path / "file"), "can't be made a folder"),
        (("evaluate", data, "-o", data, "--stride", 1), "holds one.mp4, which is no part of an older report"),
        (("evaluate", data, "-o", tmp_path, "--stride", 1), "holds file, which is no part of an older report"),
        (("evaluate", data, "--split", "train"), "Add -o REPORT_FOLDER"),
        (("evaluate", data, "-o", out, "--split", "train"), "one.mp4 has 3 frames: --stride 4 leaves none; take a smaller one"),
        (("evaluate", tmp_path / "none", "-o", out), "is not a folder with a data set"),
        (
            (*start, "--protocol", "cross", "--pairs", tmp_path / "pairs.csv"),
            "pairs.csv, line 2: there is no driving clip 'three'",
        ),
        ((*start, "--protocol", "cross", "--pairs", tmp_path / "none.csv"), "none.csv can't be read as a file of pairs"),
        ((*start, "--pairs", tmp_path / "pairs.csv"), "add --protocol cross"),
        ((*start, "--model", "lote"), "Unknown model 'lote'"),
        ((*start, "--copy-source", "--leakage"), "copy-source (copy-source) has only frames: leave out --leakage"),
        (
            ("evaluate", data, "-o", tmp_path / "file", "--split", "train", "--stride", 1, "--copy-source"),
            "can't be made a folder",
        ),
    ):
        assert word in refused(capsys, *arguments), arguments
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pairs.csv"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda root: shutil.rmtree(root), "is not a folder with generated clips"),
        (lambda root: (root / "one" / "000002.png").unlink(), "one lacks the frame 000002 of 3"),
        (
            lambda root: shutil.copy(root / "one" / "000001.png", root / "one" / "000004.png"),
            "holds the file 000004.png too many",
        ),
        (
            lambda root: (root / "one" / "000002.png").rename(root / "one" / "2.png"),
            "lacks the frame 000002 of 3, which are 000001.png",
        ),
        (lambda root: Image.new("RGB", (128, 128)).save(root / "two" / "000003.png"), "is 128 x 128, its driving clip 256 x 256"),
        (lambda root: nan_frame(root / "two" / "000003.png"), "000003.tif contains values that are not numbers"),
        (lambda root: (root / "two" / "000003.png").write_bytes(b"x"), "000003.png is not a picture that can be read"),
        (
            lambda root: (root / "two").rename(root / "zwei"),
            "lacks the clip two; mmfa evaluate --list DATA names what is expected",
        ),
        (lambda root: shutil.copytree(root / "two", root / "three"), "holds the clip three that nothing asks for"),
    ],
)
def test_predictions_that_do_not_fit_are_refused_by_name(
    data: Path, predicted: Path, tmp_path: Path, capsys, change: Callable[[Path], object], word: str
) -> None:
    change(predicted)
    start = ("evaluate", data, "-o", tmp_path / "out", "--split", "train", "--stride", 1)
    assert word in refused(capsys, *start, "--predictions", predicted)
    assert not (tmp_path / "out").exists()


def test_predictions_have_no_leakage_and_another_protocol_other_names(
    data: Path, predicted: Path, tmp_path: Path, capsys
) -> None:
    start = ("evaluate", data, "-o", tmp_path / "out", "--split", "train", "--stride", 1, "--predictions", predicted)
    assert "predicted (predictions) has only frames: leave out --leakage" in refused(capsys, *start, "--leakage")
    assert "lacks 2 clips (one--two, two--one)" in refused(capsys, *start, "--protocol", "cross")


def test_clips_that_cannot_be_measured_are_named(data: Path, clip_writer, tmp_path: Path, capsys) -> None:
    out, bad = tmp_path / "out", tmp_path / "bad"
    bad.mkdir()
    clip_writer(bad / "grey.mp4", [np.full((64, 64, 3), 128, np.uint8)] * 3, fps=2, sound=False)
    start = ("evaluate", bad, "-o", out, "--split", "train", "--stride", 1)
    assert "No face found in" in (line := refused(capsys, *start, "--copy-source")) and "grey.mp4" in line
    assert "grey.mp4" in refused(capsys, *start)
    assert "Leakage is measured on two people or more, not on 1" in refused(capsys, *start, "--leakage")
    listed = {"clips": [{"person": "x", "split": "train", "file": "gone.mp4"}]}
    (bad / "index.json").write_text(json.dumps(listed))
    assert "gone.mp4 is named in the index" in refused(capsys, *start, "--copy-source")
    assert not out.exists()


def test_reports_of_other_definitions_are_not_compared(data: Path, cache: Path, tmp_path: Path, capsys) -> None:
    report = tmp_path / "copy" / "report.json"
    common = ("--split", "train", "--stride", 1, "--cache", cache, "--copy-source", "--quiet")
    assert run("evaluate", data, "-o", report.parent, *common) == 0
    record = json.loads(report.read_text())
    record["figures"][0]["definition"]["definition"] = "of the mean error"
    (tmp_path / "other.json").write_text(json.dumps(record))
    line = refused(capsys, "compare", report, tmp_path / "other.json")
    assert "psnr differs in its definition" in line and "'of the mean error'" in line
    assert run("evaluate", data, "-o", tmp_path / "cross", *common, "--protocol", "cross") == 0
    assert "their protocol differs, same and cross" in refused(capsys, "compare", report, tmp_path / "cross" / "report.json")


def nan_frame(path: Path) -> None:
    path.unlink()
    Image.fromarray(np.full((256, 256), np.nan, np.float32)).save(path.with_suffix(".tif"))
