"""The corpus and a report, each made once for all processes of pytest-xdist."""

import fcntl
import os
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from mmfa.cli.main import main
from mmfa.media.image import Array

from .files import make_corpus

MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """A folder by name, shared between the processes: the first to ask for it fills it while the others wait."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, unfinished = shared / name, shared / f"{name}.unfinished"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                fill(unfinished)
                unfinished.rename(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def corpus(make_once: MakeOnce, portrait: Path, carphone_frames: list[Array]) -> Path:
    """The folder of `make_corpus`, for reading only."""
    model = Path(str(files("mmfa") / "models/lite"))
    return make_once("corpus", lambda root: make_corpus(root, portrait=portrait, carphone=carphone_frames, model=model))


@pytest.fixture(scope="session")
def report(make_once: MakeOnce, corpus: Path) -> Path:
    """A report.json of ``mmfa evaluate``."""

    def evaluate(root: Path) -> None:
        kept = root.with_name("report-cache")
        words = ["evaluate", corpus / "data", "-o", root, "--cache", kept, "--split", "train", "--stride", "4"]
        assert main([str(word) for word in [*words, "--predictions", corpus / "p_good", "--quiet"]]) == 0

    return make_once("report", evaluate) / "report.json"
