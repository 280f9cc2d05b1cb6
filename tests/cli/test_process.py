"""How the program ends, and how it speaks to a terminal that is closed, full, unread or poor in letters."""

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmfa.cli.main import main
from mmfa.cli.process import Ended, ended_by_signals, tell, working_streams
from mmfa.media.video import VideoWriter
from mmfa.session import Session

HANDLED = [signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _model_loaded_once(animator, monkeypatch) -> None:
    monkeypatch.setattr(Session, "from_pretrained", classmethod(lambda cls, *a, **k: animator.session))


@pytest.fixture
def command(portrait, short_driving, tmp_path) -> list[str]:
    (tmp_path / "out").mkdir()
    return ["animate", str(portrait), str(short_driving), "-o", str(tmp_path / "out" / "out.mp4")]


@pytest.fixture
def sent(monkeypatch):
    """Send a signal to this process, again and again, from the third frame on."""

    def arrange(number: int) -> None:
        write, written = VideoWriter.write, []

        def signalled(self: VideoWriter, image: object) -> None:
            written.append(image)
            if len(written) >= 3:
                os.kill(os.getpid(), number)
            write(self, image)  # type: ignore[arg-type]

        monkeypatch.setattr(VideoWriter, "write", signalled)

    return arrange


# -- ends ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", HANDLED)
def test_a_signal_ends_it_like_ctrl_c(command, sent, capsys, number) -> None:
    output = Path(command[-1])
    output.write_bytes(b"old")
    before = signal.signal(number, signal.SIG_DFL)
    try:
        sent(number)
        assert main(command) == 128 + number
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == f"mmfa: ended by {number.name}; no unfinished file was left.\n"
    assert [path.name for path in output.parent.iterdir()] == ["out.mp4"] and output.read_bytes() == b"old"


def test_what_is_ignored_stays_ignored(command, sent) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        sent(signal.SIGHUP)
        assert main([*command, "--quiet"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert Path(command[-1]).stat().st_size > 0


def test_worker_processes_are_interrupted_too(monkeypatch) -> None:
    """Ctrl-C reaches them by itself, `kill` the main process alone."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stderr=subprocess.DEVNULL) as worker:
        monkeypatch.setattr(multiprocessing, "active_children", lambda: [worker])

        def work() -> None:
            with ended_by_signals():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(10)

        with pytest.raises(Ended):
            work()
        assert worker.wait(30) == -signal.SIGINT


def test_it_runs_in_another_thread(command) -> None:
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(main([*command, "--quiet"])))
    thread.start()
    thread.join()
    assert status == [0]


# -- streams ------------------------------------------------------------------------------------------------------------


def test_a_full_output_is_told_in_one_sentence(capsys, monkeypatch) -> None:
    for words in (["info", "tiny"], ["edit", "--help"]):
        with Path("/dev/full").open("w") as full:
            monkeypatch.setattr(sys, "stdout", full)
            assert main(words) == 2
            assert sys.stdout is full
        assert capsys.readouterr().err == "mmfa: the output cannot be written: no space left on device.\n"


def test_an_output_that_nobody_reads_is_no_news(capsys, monkeypatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        assert main(["info", "tiny"]) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_letters_that_the_terminal_lacks_become_escapes(monkeypatch, encoding) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--help"])
    assert stop.value.code == 0 and stream.errors == "strict"
    with working_streams():
        tell("视 \udcff \u2026")
    stream.flush()
    text = stream.buffer.getvalue().decode(encoding)
    assert "000001.png" in text and "\\u89c6 \\udcff" in text
    assert ("\\u2026" in text) == (encoding == "ascii")


def test_no_standard_error_at_all(monkeypatch, capsys, command) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["info", "nosuch"]) == 2
    assert main(command) == 0
    assert sys.stderr is None
    assert capsys.readouterr().out == ""


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path) -> None:
    """Else what the program says would go into what it writes."""
    script = (
        "import sys\n"
        "from mmfa.cli.process import complain, flush_output, working_streams, OutputError, tell\n"
        "with working_streams(), open('out.txt', 'w') as file:\n"
        "    complain('a word')\n"
        "    file.write(f'{file.fileno() > 2}')\n"
        "    try:\n"
        "        tell('another')\n"
        "        flush_output()\n"
        "    except OutputError as error:\n"
        "        file.write(f' {error.unread}')\n"
    )
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script]
    assert subprocess.run(closed, cwd=tmp_path, timeout=60).returncode == 0
    assert (tmp_path / "out.txt").read_text() == "True False"


def test_words_that_cannot_be_told_stop_no_work(command, monkeypatch) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(full, write_through=True))
        assert main(command) == 0
    assert Path(command[-1]).stat().st_size > 0
