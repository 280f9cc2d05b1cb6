"""259 bad and odd inputs: each is refused with one clear sentence, or works, and nothing is left behind.

Most cases run in this process, with the model loaded once. Those run as a process of their own that a signal ends, whose streams,
environment, memory or disk are special, or that could take this process along.

| cases            | in process | as processes |
|------------------|-----------:|-------------:|
| sources          |         33 |            3 |
| drivers          |         36 |            1 |
| motion files     |         25 |            0 |
| models           |         17 |            1 |
| options          |         33 |            2 |
| places           |         16 |            7 |
| ends             |          0 |            6 |
| surroundings     |          2 |           14 |
| configurations   |         12 |            2 |
| data sets        |         44 |            2 |
| usage            |          3 |            0 |
| all              |        221 |           38 |
"""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import av
import pytest
import torch
from PIL import Image
from safetensors.numpy import load

import mmfa
from mmfa.animate import Animator
from mmfa.cli.main import main
from mmfa.session import Session

from . import cases
from .cases import CASES, Case
from .files import NOT_UTF8

ADDRESS_SPACE = 10 << 30
"""Bytes. A process that wants more gets a MemoryError and fails, instead of taking the machine's memory."""
_SENTENCE = re.compile(r"mmfa( [a-z-]+)?: \S.{0,400}")
_USAGE = re.compile(r"usage:| {8,}")
_TRACE = re.compile(r"Traceback \(most recent call last\)|Fatal Python error|Exception ignored|Segmentation fault")
_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True)
class Place:
    """corpus: what is read. out: the case's own folder. words: what stands in braces in a case's words."""

    corpus: Path
    out: Path
    words: Mapping[str, str]

    def filled(self, text: str) -> str:
        for name, value in self.words.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def argv(self, case: Case) -> list[str]:
        return [self.filled(word) for word in (case.argv.split() if isinstance(case.argv, str) else case.argv)]

    def output(self, case: Case) -> Path | None:
        """The file or folder that the case names for its output, if it is to lie in the case's folder."""
        argv = self.argv(case)
        path = Path(self.filled(case.cwd), argv[argv.index("-o") + 1]) if "-o" in argv[:-1] else None
        return path if path is not None and path.is_relative_to(self.out) else None


@dataclass(frozen=True)
class Result:
    """status: minus a signal's number where one ended it. said: both streams. megabytes: the most memory; None: in process."""

    status: int
    said: str
    megabytes: int | None = None


@pytest.fixture
def place(corpus: Path, tmp_path: Path, case: Case, request: pytest.FixtureRequest) -> Place:
    out = tmp_path / "out"
    out.mkdir()
    words = {"corpus": str(corpus), "out": f"{out}/", "PATH": os.environ["PATH"], "core": str(min(os.sched_getaffinity(0)))}
    if "{report}" in " ".join(case.argv.split() if isinstance(case.argv, str) else case.argv):
        words["report"] = str(request.getfixturevalue("report"))
    return Place(corpus, out, words)


@pytest.fixture
def _model_loaded_once(animator: Animator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command otherwise loads the shipped networks again. Other models and devices are loaded as always."""
    load = Session.from_pretrained

    def cached(name: str | Path = "lite", **options: Any) -> Session:
        if str(name) != "lite" or options.get("device", "auto") not in ("auto", "cpu"):
            return load(name, **options)
        return animator.session

    monkeypatch.setattr(Session, "from_pretrained", cached)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.slow) for case in CASES if not case.process]
)
@pytest.mark.usefixtures("_model_loaded_once")
def test_in_process(case: Case, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    with _watched(case, place) as judge:
        capfd.readouterr()
        with _as_before(), _time_limit(case.seconds):
            os.chdir(place.filled(case.cwd))
            status = _run(place.argv(case))
        captured = capfd.readouterr()
        judge(Result(status, captured.err + captured.out))


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.slow) for case in CASES if case.process]
)
def test_as_process(case: Case, place: Place, tmp_path: Path) -> None:
    with _watched(case, place) as judge, (tmp_path / "said").open("w+b") as said:
        judge(_run_process(case, place, said))


def test_every_case_is_here() -> None:
    assert len(CASES) == len({case.name for case in CASES}) == 259
    table = re.findall(r"^\| ([a-z ]+?) +\| +(\d+) \| +(\d+) \|$", __doc__, re.MULTILINE)
    groups = {
        "sources": cases.SOURCES,
        "drivers": cases.DRIVERS,
        "motion files": cases.MOTIONS,
        "models": cases.MODELS,
        "options": cases.OPTIONS,
        "places": cases.PLACES,
        "ends": cases.ENDS,
        "surroundings": cases.SURROUNDINGS,
        "configurations": cases.CONFIGS,
        "data sets": cases.DATA_SETS,
        "usage": cases.USAGE,
        "all": CASES,
    }
    counted = [
        (name, sum(not case.process for case in group), sum(case.process for case in group)) for name, group in groups.items()
    ]
    assert [(name, int(here), int(apart)) for name, here, apart in table] == counted


def test_what_only_a_process_can_have_is_asked_of_processes() -> None:
    for case in CASES:
        special = case.shell or case.env or case.signal or case.file_bytes or case.megabytes != Case.megabytes
        assert case.process or not special, case.name


# -- what is judged -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _watched(case: Case, place: Place) -> Iterator[Callable[[Result], None]]:
    """Set the scene; yield what judges the result by the case, by the files it leaves and by the corpus, left as it was."""
    with SCENES[case.scene](place):
        if case.copied:
            shutil.copy(place.corpus / case.copied, place.out / f"copy{Path(case.copied).suffix}")
        output = place.output(case)
        if case.old:
            assert output is not None
            output.write_bytes(b"old")
        corpus, before = _stamps(place.corpus), _contents(place.out)

        def judge(result: Result) -> None:
            # The folder's name holds the case's, in which a pattern must not be found.
            _judge_words(case, replace(result, said=result.said.replace(f"{place.out}/", "")))
            mine = [place.out / "set" / "work", *[place.out / ".cache"] * case.measured]  # what is done is kept
            if result.status == 0 and output is not None and case.expect != "end":
                _check_output(output)
                mine += [output, output.resolve(), output.parent / ".cache"]
            after = _contents(place.out)
            if case.signal == signal.SIGKILL:  # nobody could clear up
                after = {path: after[path] for path in before if path in after}
            assert _without(after, mine) == _without(before, mine), "files were left, changed or lost"
            assert _stamps(place.corpus) == corpus, "the corpus was changed"
            if result.megabytes is not None:
                assert result.megabytes <= case.megabytes

        yield judge


def _judge_words(case: Case, result: Result) -> None:
    """The exit status, and what was said."""
    said = f"exit status {result.status}, and this was said:\n{result.said[-2000:]}"
    assert not _TRACE.search(result.said), said
    assert re.search(case.says, result.said), f"{case.says!r} is not in it; {said}"
    if case.expect == "end":
        if case.status is not None:
            assert result.status == case.status, said
        elif case.signal is not None:
            assert result.status != 0, said
        return
    assert result.status in {"refuse": (2,), "work": (0,), "either": (0, 2)}[case.expect], said
    if result.status == 2:
        lines = [line for line in _lines(result.said) if not _USAGE.match(line)]
        assert len(lines) == 1 and _SENTENCE.fullmatch(lines[0]), f"not one sentence; {said}"


def _lines(said: str) -> list[str]:
    """Without progress bars."""
    lines = [part for line in said.replace("\r", "\n").split("\n") if (part := line.rstrip())]
    return [line for line in lines if not re.match(r"\s*(motion|render|preparing|measuring)[^:]*:\s+\d+%", line)]


def _check_output(output: Path) -> None:
    """An output is what its suffix says, whole, and may be read by whom the umask lets."""
    if output.suffix in (".png", ".jpg"):
        with Image.open(output) as picture:
            assert picture.format == {".png": "PNG", ".jpg": "JPEG"}[output.suffix]
            picture.load()
    elif output.suffix == ".mp4":
        with av.open(str(output)) as video:
            assert "mp4" in video.format.name and len(list(video.decode(video=0))) > 0
    elif output.suffix == ".safetensors":
        assert load(output.read_bytes())
    else:
        assert json.loads((output / "report.json").read_text())["format"] == "mmfa-report"
        return
    os.umask(umask := os.umask(0o022))
    assert output.stat().st_mode & 0o777 == 0o666 & ~umask


def _contents(root: Path) -> dict[Path, bytes]:
    """Every file below a folder, links by where they lead."""
    return {
        path: os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def _without(files: dict[Path, bytes], places: list[Path]) -> dict[Path, bytes]:
    """The files that neither are one of the places nor lie below one."""
    return {path: content for path, content in files.items() if not any(path.is_relative_to(place) for place in places)}


def _stamps(root: Path) -> dict[str, tuple[int, int]]:
    """Size in bytes and time of the last change, in ns, of every file below a folder."""
    stats = {str(path): path.lstat() for path in root.rglob("*") if not path.is_dir()}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


# -- scenes -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ghostscript(place: Place) -> Iterator[None]:
    """Programs that leave a trace under every name by which Pillow may call Ghostscript."""
    programs, trace = place.out.parent / "bin", place.out.parent / "started"
    programs.mkdir()
    for name in ("gs", "gswin64c", "gswin32c", "ghostscript"):
        (programs / name).write_text(f"#!/bin/sh\ntouch '{trace}'\nexit 1\n")
        (programs / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        yield
    assert not trace.exists(), "Ghostscript was started for a picture"


@contextlib.contextmanager
def _link(place: Place) -> Iterator[None]:
    """The output is a link to an older file, which is replaced."""
    target, link = place.out / "far" / "real.png", place.out / "x.png"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to("far/real.png")
    yield
    assert link.is_symlink(), "the link was replaced"
    assert target.read_bytes().startswith(b"\x89PNG"), "the link's target was not written"


@contextlib.contextmanager
def _small_disk(place: Place) -> Iterator[None]:
    """A file system of 4 kB."""
    folder = place.out / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"a small file system can't be mounted here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def _not_utf8(place: Place) -> Iterator[None]:
    if not (place.corpus / os.fsdecode(NOT_UTF8)).exists():
        pytest.skip("this file system takes no name that is not UTF-8")
    yield


SCENES: dict[str, Callable[[Place], contextlib.AbstractContextManager[None]]] = {
    "": lambda _: contextlib.nullcontext(),
    "ghostscript": _ghostscript,
    "link": _link,
    "not utf-8": _not_utf8,
    "small disk": _small_disk,
}


# -- running ------------------------------------------------------------------------------------------------------------


def _run(argv: list[str]) -> int:
    try:
        return main(argv)
    except SystemExit as stop:  # argparse
        if isinstance(stop.code, int):
            return stop.code
        raise


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Put back what a program may change because it ends soon."""
    folder, environment, threads = Path.cwd(), dict(os.environ), torch.get_num_threads()
    streams = sys.stdin, sys.stdout, sys.stderr
    handlers = {number: signal.getsignal(number) for number in _HANDLED}
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        torch.set_num_threads(threads)
        sys.stdin, sys.stdout, sys.stderr = streams
        for number, handler in handlers.items():
            signal.signal(number, handler)


class TooSlow(BaseException):
    """No Exception, so that no handler for errors takes it."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"not done in {seconds:g} s")

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def _run_process(case: Case, place: Place, said: BinaryIO) -> Result:
    words = [sys.executable, "-m", "mmfa", *place.argv(case)]
    if case.shell:
        shell = place.filled(case.shell)
        if "taskset" in shell and not shutil.which("taskset"):
            pytest.skip("taskset is not installed")
        words = ["bash", "-c", shell, "case", *words]
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    # The code of this process. No graphics card, for which the address space would be too small.
    code = [str(Path(mmfa.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment |= {"PYTHONPATH": os.pathsep.join(code), "CUDA_VISIBLE_DEVICES": ""}
    environment |= {name: place.filled(value) for name, value in case.env.items() if value is not None}
    for name in (name for name, value in case.env.items() if value is None):
        environment.pop(name, None)

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if case.file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (case.file_bytes, case.file_bytes))

    process = subprocess.Popen(
        words,
        cwd=place.filled(case.cwd),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        preexec_fn=limits,
        start_new_session=True,
    )
    try:
        status, memory, sent = _wait(case, place, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    said.seek(0)
    text = said.read().decode("utf-8", "replace")
    assert sent, f"ended before its signal with exit status {status}, and this was said:\n{text[-2000:]}"
    return Result(status, text, memory)


def _wait(case: Case, place: Place, process: subprocess.Popen[bytes]) -> tuple[int, int, bool]:
    """Exit status, most memory in MB, and whether the case's signal, if any, was sent: when its moment had come."""
    deadline = time.monotonic() + case.seconds
    sent = case.signal is None
    while time.monotonic() < deadline:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_maxrss // 1024, sent
        if case.signal is not None and not sent and MOMENTS[case.moment](process.pid, place):
            os.kill(process.pid, case.signal)
            sent = True
        time.sleep(0.02)
    raise AssertionError(f"not done in {case.seconds:g} s" + ("" if sent else f": the moment to {case.moment} never came"))


def _starts(pid: int, place: Place) -> bool:
    """Torch's library is being loaded."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def _tracks(pid: int, place: Place) -> bool:
    """The driving video is open, and not only for a first look."""
    for _ in range(4):
        if not any(path.name == "long.mp4" for path in _open_files(pid)):
            return False
        time.sleep(0.1)
    return True


def _open_files(pid: int) -> list[Path]:
    """Where the descriptors of a process lead; one may be closed while they are read."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(link.readlink())
    return found


def _renders(pid: int, place: Place) -> bool:
    return any(path.name.startswith(".") and path.stat().st_size > 0 for path in place.out.iterdir())


MOMENTS: dict[str, Callable[[int, Place], bool]] = {"start": _starts, "track": _tracks, "render": _renders}
