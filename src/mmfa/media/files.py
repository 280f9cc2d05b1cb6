"""Checks on input files, and outputs that appear whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmfa.errors import MediaError


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
    KeyboardInterrupt included, it is deleted and an older file at `path` stays as it was.

    Raises:
        MediaError: `path` is a folder or a special file; its folder is missing, not a folder or not writable;
            the disk filled up inside the block.
    """
    # A link is followed, so that the file it points to is replaced and not the link itself.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
    _check_output(target, shown=Path(path))
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise MediaError(f"{path} cannot be written: {_reason(error)}.") from error
    try:
        yield temporary
        try:
            os.replace(temporary, target)
        except OSError as error:
            raise MediaError(f"{path} cannot be written: {_reason(error)}.") from error
    except Exception as error:
        # PyAV's errors carry an errno without being OSErrors, hence getattr.
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise MediaError(f"{path} cannot be written: the disk is full.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: str | os.PathLike[str]) -> None:
    """Raise MediaError if a file can't be written at `path`: to say so before long work, not after it."""
    target = Path(os.path.realpath(path))
    _check_output(target, shown=Path(path))
    if not os.access(target.parent, os.W_OK):
        raise MediaError(f"{path} cannot be written: the folder {Path(path).parent} is not writable.")


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
