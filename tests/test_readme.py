"""Every command in the README is one that exists."""

import re
import shlex
from pathlib import Path

import pytest

from mmfa.cli.main import _parser
from mmfa.train.shipped import config_path

ROOT = Path(__file__).parent.parent


def commands() -> list[str]:
    """The lines of the README's bash blocks, comments and prompts cut, continued lines joined."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^ *```(?:bash|sh|console)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if line.strip() and not line.strip().startswith("#")]


def words(program: str) -> list[list[str]]:
    """The arguments of every call of `program`, by name or by a path that ends in it."""
    calls = []
    for command in commands():
        for part in re.split(r"&&|;|\|", command):
            found = shlex.split(part, comments=True)
            while found and re.fullmatch(r"[A-Z_]+=.*", found[0]):
                found = found[1:]
            if found and Path(found[0]).name == program:
                calls.append(found[1:])
    return calls


def test_mmfa_commands_parse() -> None:
    calls = words("mmfa")
    assert calls, "the README shows no mmfa command"
    for call in calls:
        if call in (["--help"], ["--version"]):
            continue
        try:
            _parser().parse_args(call)
        except SystemExit as stop:
            pytest.fail(f"README: mmfa {shlex.join(call)} exits with {stop.code}")
    assert {"animate", "motion", "train"} <= {call[0] for call in calls}


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    called = {word for call in words("make") for word in call if "=" not in word and not word.startswith("-")}
    assert {"demo", "test"} <= called <= targets


def test_configs_named_exist() -> None:
    for call in words("mmfa"):
        if call[0] == "train":
            assert config_path(call[1]).is_file(), f"README names {call[1]}"


def test_relative_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), f"README links to {link}"
