"""Checks on input files, and outputs that appear whole or not at all."""

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mmfa.errors import MediaError

_DISK_FAULTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this disk is used up",
    errno.EFBIG: "the file grows larger than is allowed here (see ulimit -f)",
    errno.EROFS: "the disk is read-only",
    errno.EIO: "the disk reports an error",
}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@dataclass(frozen=True)
class Files:
    """What a piece of work reads and what it writes, as far as can be told before it; files that aren't there don't matter.

    continues: goes on with what an earlier run left, so that its own files are no news to the user.
    """

    reads: Sequence[Path]
    writes: Sequence[Path]
    continues: bool = False


def check_input(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a `Path` to a readable, non-empty regular file.

    Raises:
        MediaError: the file is missing, a folder, something else than a file, empty or unreadable.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise MediaError(f"{path} is a folder, not a file.")
        if not path.exists():
            raise MediaError(f"{path} does not exist.")
        if not path.is_file():
            raise MediaError(f"{path} is not a regular file.")
        with path.open("rb") as file:
            if not file.read(1):
                raise MediaError(f"{path} is empty (0 bytes).")
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {_reason(error)}.") from error
    return path


@contextmanager
def atomic_output(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file beside `path`, which becomes `path` when the block ends cleanly.

    The temporary file exists and is empty, lies in the same folder and has the same suffix. On any exception,
    KeyboardInterrupt included, it is deleted and an older file at `path` stays as it was. The new file has the
    permissions that the umask gives to new files.

    Raises:
        MediaError: `path` is a folder or a special file; its folder is missing, not a folder or not writable;
            the disk filled up inside the block, or failed in another way of its own (`disk_fault`).
    """
    # A link is followed, so that the file it points to is replaced and not the link itself.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
    _check_output(target, shown=Path(path))
    try:
        try:
            file = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            mode = stat.S_IMODE(os.fstat(file).st_mode)
            os.close(file)
        except OSError as error:
            raise MediaError(f"{path} cannot be written: {_reason(error)}.") from error
        try:
            yield temporary
        except Exception as error:
            fault = disk_fault(error, file=temporary)
            if fault is not None:
                raise MediaError(f"{path} cannot be written: {fault}.") from error
            raise
        try:
            # What the umask says; some writers put a file of their own, readable by its owner alone, in the place of ours.
            if stat.S_IMODE(temporary.stat().st_mode) != mode:
                temporary.chmod(mode)
            temporary.replace(target)
        except OSError as error:
            raise MediaError(f"{path} cannot be written: {_reason(error)}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def disk_fault(error: BaseException, *, file: str | os.PathLike[str] | None = None) -> str | None:
    """What a disk, and not a program, did to a writer, in words: it is full, read-only or broken, or its limit is reached.

    None for every other error, and for one that names another file than `file`: then it was a reader's.
    """
    name = getattr(error, "filename", None)
    if name and file is not None and os.fspath(name) != os.fspath(file):
        return None
    # PyAV's errors carry a number without being OSErrors; those of safetensors have it in their text alone.
    number = getattr(error, "errno", None)
    if number is None and type(error).__name__ == "SafetensorError" and (match := _OS_ERROR.search(str(error))):
        number = int(match[1])
    return _DISK_FAULTS.get(number) if isinstance(number, int) else None


@contextmanager
def replacing(
    outputs: Iterable[Path], *, inputs: Iterable[Path], clobber: bool = True, tell: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Stand around work that reads `inputs` and writes `outputs`: no input is overwritten, and no output without a word.

    Paths of both kinds may lack their file. At the end, of the work or of an attempt at it, `tell` is given one sentence that
    names the older files that were replaced, if any were.

    Raises:
        MediaError: before the work, for an output that is the same file as an input, whatever links lead to it, and, unless
            `clobber`, for one that exists.
    """
    outputs = list(outputs)
    sources: dict[tuple[int, int] | None, Path] = {}
    for path in inputs:
        sources.setdefault(_identity(path), path)
    sources.pop(None, None)
    older = {path: _identity(path) for path in outputs}
    for path, identity in older.items():
        if identity in sources:
            what = "an input" if path == sources[identity] else f"the same file as the input {sources[identity]}"
            raise MediaError(f"{path} is {what} and will not be overwritten; name another output.")
    there = [path for path, identity in older.items() if identity is not None]
    if there and not clobber:
        raise MediaError(f"{there[0]} exists already and is not to be replaced; name another output.")
    try:
        yield
    finally:
        replaced = [str(path) for path in there if _identity(path) not in (None, older[path])]
        if replaced and tell is not None:
            tell(f"{', '.join(replaced)}: {'an older file was' if len(replaced) == 1 else 'older files were'} replaced.")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells one file of a machine from another, links followed; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def check_output(path: str | os.PathLike[str], *, least: int = 0) -> None:
    """Raise MediaError if a file of `least` bytes can't be written at `path`: to say so before long work, not after it."""
    target = Path(os.path.realpath(path))
    _check_output(target, shown=Path(path))
    if not os.access(target.parent, os.W_OK):
        raise MediaError(f"{path} cannot be written: the folder {Path(path).parent} is not writable.")
    with suppress(OSError):
        disk = shutil.disk_usage(target.parent)
        if disk.total and disk.free < least:  # where nothing is known, both are 0
            raise MediaError(f"{path} cannot be written: {_DISK_FAULTS[errno.ENOSPC]} ({disk.free // 1000} kB are left).")


def _check_output(target: Path, *, shown: Path) -> None:
    try:
        if target.is_dir():
            raise MediaError(f"{shown} is a folder; give the name of the file to write.")
        if target.exists() and not target.is_file():
            raise MediaError(f"{shown} is not a regular file and will not be replaced.")
        if not target.parent.exists():
            raise MediaError(f"{shown} cannot be written: the folder {shown.parent} does not exist.")
        if not target.parent.is_dir():
            raise MediaError(f"{shown} cannot be written: {shown.parent} is not a folder.")
    except OSError as error:
        raise MediaError(f"{shown} cannot be written: {_reason(error)}.") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
