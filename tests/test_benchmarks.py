"""Benchmarks and experiments: each says what it measures, all share one set of options, and what the pages call exists."""

import argparse
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.options import ALWAYS, parser, run
from mmfa.errors import FaceError

ROOT = Path(__file__).parents[1]
NOT_SCRIPTS = {"__init__", "options"}
SCRIPTS = {
    folder: sorted(path.stem for path in (ROOT / folder).glob("*.py") if path.stem not in NOT_SCRIPTS)
    for folder in ("benchmarks", "research")
}
ALL = [f"{folder}.{name}" for folder, names in SCRIPTS.items() for name in names]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("research/*.md"), *ROOT.glob("src/mmfa/models/*/README.md")]


def shown(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr("sys.argv", [name, "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        import_module(name).main()
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ALL)
def test_help_says_what_is_measured_and_every_option(name: str, monkeypatch, capsys) -> None:
    text = shown(name, monkeypatch, capsys)
    doc = import_module(name).__doc__
    assert doc is not None and doc.strip() in text and f"python -m {name}" in doc
    entries = re.split(r"^  (?=-)", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 2
    for entry in entries:
        flags, *said = re.split(r" {2,}|\n +", entry.strip(), maxsplit=1)
        assert said and len(said[0].split()) > 1, f"{name} says nothing of {flags}"


@pytest.mark.parametrize("name", [f"benchmarks.{name}" for name in SCRIPTS["benchmarks"]])
def test_every_benchmark_has_the_common_options(name: str, monkeypatch, capsys) -> None:
    text = shown(name, monkeypatch, capsys)
    assert all(f"  --{option}" in text for option in ALWAYS)


def calls() -> Iterator[tuple[str, str]]:
    """Every command in a page that runs one of the scripts, by page; a command that goes on in the next line is joined."""
    for page in PAGES:
        for words in re.findall(
            r"python (-m (?:benchmarks|research)\.[a-z][^`#]+?)(?:`|  +#|$)", page.read_text("utf-8"), re.MULTILINE
        ):
            yield str(page.relative_to(ROOT)), " ".join(words.split())


@pytest.mark.parametrize(("page", "call"), [pytest.param(*call, id=" ".join(call)) for call in calls()])
def test_what_the_pages_call_is_understood(page: str, call: str, monkeypatch) -> None:
    _, name, *words = shlex.split(call)
    assert name in ALL, f"{page}: {name}"

    class Parsed(Exception):
        pass

    parse_args = argparse.ArgumentParser.parse_args

    def parse_alone(made: argparse.ArgumentParser, words: list[str] | None = None) -> None:
        parse_args(made, words)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_alone)
    monkeypatch.setattr("sys.argv", [name, *words])
    with pytest.raises(Parsed):
        import_module(name).main()


def test_scripts_that_the_pages_name_exist() -> None:
    for page in [*PAGES, *(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.yaml")]:
        if page.name == "CHANGELOG.md":  # of scripts as they were
            continue
        for name in re.findall(r"\b((?:benchmarks|research|tools)/[\w./-]+\.\w+)", page.read_text("utf-8")):
            assert (ROOT / name).exists(), f"{page.relative_to(ROOT)} names {name}"


def test_what_a_user_can_mend_is_a_sentence(capsys) -> None:
    def fail() -> None:
        raise FaceError("clip.mp4 shows no face.")

    with pytest.raises(SystemExit) as end:
        run(fail)
    assert end.value.code == 2 and capsys.readouterr() == ("", "clip.mp4 shows no face.\n")


def test_an_option_can_be_otherwise_in_one_script() -> None:
    made = parser("What.", "model", "quiet", frames={"default": 3, "help": "of each clip"})
    options = made.parse_args(["--model", "small"])
    assert (options.model, options.quiet, options.frames) == ("small", False, 3)
    assert "how many frames are looked at; of each clip (default: 3)" in " ".join(made.format_help().split())
