"""A folder of files that belong together: it appears whole or not at all, and takes an older one's place whole."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError, MediaError

_NOBODYS = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers leave in folders that were looked at."""


def check_folder(folder: Path, *, files: Collection[str], mark: str) -> None:
    """See that `whole_folder` could write a folder and would replace nothing but an older one, before long work.

    files: names of all that an older one may hold; mark: the one that each such folder holds. Raises MediaError for a place that
    can't be written, ConfigError for a folder that holds anything else, so that no one's files go.
    """
    target = Path(os.path.realpath(folder))
    try:
        if target.exists() and not target.is_dir():
            raise MediaError(f"{folder} can't be made a folder: a file is there.")
        names = {path.name for path in target.iterdir()} - _NOBODYS if target.is_dir() else set()
        above = next(parent for parent in target.parents if parent.exists())
    except OSError as error:
        raise MediaError(f"{folder} can't be made a folder ({error.strerror}).") from error
    if strange := sorted(names - set(files)) or (sorted(names) if mark not in names else []):
        raise ConfigError(
            f"{folder} holds {strange[0]}, which is no part of an older report; a report takes a folder of its own: name another."
        )
    if target == Path.cwd() or os.path.ismount(target):
        raise ConfigError(
            f"A report replaces its folder, which {folder} doesn't allow; name one in it, such as {folder / 'report'}."
        )
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise MediaError(f"{folder} can't be made a folder: {above} isn't {'writable' if above.is_dir() else 'a folder'}.")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which becomes `folder` when the block ends cleanly; an older one goes. On any exception nothing
    is left and the older one stays as it was. A link is followed. Raises MediaError when it can't be written.
    """
    target = Path(os.path.realpath(folder))
    fresh, old = (target.with_name(f".{secrets.token_hex(8)}") for _ in range(2))
    try:
        try:
            fresh.mkdir(parents=True)
            yield fresh
            _exchange(fresh, target, old)
        except OSError as error:
            raise MediaError(f"{folder} can't be written ({error.strerror or error}).") from error
        except MediaError as error:  # of a file in it
            raise MediaError(str(error).replace(str(fresh), str(folder))) from error
    finally:
        for path in (fresh, old):
            shutil.rmtree(path, ignore_errors=True)


def _exchange(fresh: Path, target: Path, old: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        old.rename(target)
        raise
