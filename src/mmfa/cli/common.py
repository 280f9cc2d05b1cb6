"""What several commands share: options, and how they speak."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .process import complain, tell
from .terminal import TerminalWatch

if TYPE_CHECKING:
    from ..requests import Request

DIRECTIONS = "jaw_open, smile, blink_left, blink_right, brow_raise, gaze_x, gaze_y"

PHOTO = "portrait photo: JPEG, PNG, WebP or another picture"
DRIVER = "photo, video, or motion file (.safetensors)"
MOMENT = "VIDEO@SECONDS is one frame of a video, such as talk.mp4@2.4"
PICTURES, VIDEOS = ".png, .jpg, .webp, .bmp or .tif", ".mp4, .mov or .mkv"
"""What the help texts call the suffixes that can be written."""


# -- files --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """What a command reads and what it writes, as far as its options tell; files that aren't there don't matter.

    continues: goes on with what an earlier run left, so that its own files are no news to the user.
    """

    reads: Sequence[Path]
    writes: Sequence[Path]
    continues: bool = False


@contextlib.contextmanager
def guarded(options: argparse.Namespace) -> Iterator[None]:
    """Stand around a command, so that it overwrites no input, and no older output without a word; see `replacing`.

    A command that writes files says which by ``set_defaults(files=...)``, a function from its options to `Files`.
    """
    from ..media.files import replacing

    if not hasattr(options, "files"):
        yield
        return
    files: Files = options.files(options)
    tell = (lambda text: None) if files.continues else (lambda text: say(options, text))
    with replacing(files.writes, inputs=files.reads, clobber=options.clobber, tell=tell):
        yield


def model_files(name: str | Path) -> list[Path]:
    """What the model `name` is read from, and the networks that find a face: as far as they are there."""
    from ..requests.base import model_files as found

    return found(name)


def data_files(data: str | Path) -> list[Path]:
    """The index of a data set."""
    from ..dataset.index import INDEX

    return [Path(data) / INDEX]


def filled(folder: Path) -> list[Path]:
    """`folder`, if there is anything in it."""
    with contextlib.suppress(OSError):
        if next(folder.iterdir(), None) is not None:
            return [folder]
    return []


# -- options ------------------------------------------------------------------------------------------------------------


def add_command(commands: argparse._SubParsersAction, name: str, text: str, *, examples: str) -> argparse.ArgumentParser:
    """The parser of a command: `text` in the list of commands and above its own help, `examples`, a line each, below it."""
    lines = "\n".join(f"  mmfa {name} {line.strip()}" for line in examples.strip().splitlines())
    return commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_output(parser: argparse.ArgumentParser, metavar: str, text: str, **rest: Any) -> None:
    """``-o`` and ``--no-clobber``."""
    parser.add_argument("-o", "--output", type=Path, metavar=metavar, help=text, **{"required": True, **rest})
    add_no_clobber(parser)


def add_no_clobber(parser: argparse.ArgumentParser) -> None:
    """``--no-clobber``."""
    parser.add_argument(
        "--no-clobber", dest="clobber", action="store_false", help="refuse to replace an older output, before the work"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """``--model`` and ``--device``."""
    parser.add_argument("--model", default="lite", metavar="NAME|DIR", help="a shipped model or a folder; default: lite")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")


def add_common(parser: argparse.ArgumentParser) -> None:
    """``--face`` and ``--quiet``."""
    parser.add_argument("--face", type=index, default=0, metavar="N", help="which face, largest first; default: 0")
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no report")


def index(text: str) -> int:
    """An argparse type: 0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def say(options: argparse.Namespace, text: str) -> None:
    """A line for the person at the terminal, unless ``--quiet``."""
    if not getattr(options, "quiet", False):
        complain(text)


def add_crop(parser: argparse.ArgumentParser, text: str = "the pictures already are face crops") -> None:
    """``--no-crop``."""
    parser.add_argument("--no-crop", dest="crop", action="store_false", help=text)


def add_quality(parser: argparse.ArgumentParser) -> None:
    """The options that every command with a driving video shares."""
    parser.add_argument("--smooth", type=float, default=0.5, metavar="F", help="against jitter: 0 off to 1 strong; default: 0.5")
    parser.add_argument("--lips", type=float, default=1.0, metavar="F", help="factor on the movement of the lips; default: 1")
    parser.add_argument("--eyes", type=float, default=1.0, metavar="F", help="factor on that of lids and irises; default: 1")


def add_set(parser: argparse.ArgumentParser, text: str) -> None:
    """``--set NAME=F``, repeatable: expressions by name."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=F", help=f"{text}; 1 is a strong one; of {DIRECTIONS}; repeatable"
    )
    parser.add_argument("--unclipped", action="store_true", help="keep values beyond what the model was trained on")


# -- requests -----------------------------------------------------------------------------------------------------------


def request_from(options: argparse.Namespace) -> Request:
    """The request that a command line asks for: options have the names of its fields. Raises ConfigError."""
    from ..requests import REQUESTS

    kind = REQUESTS[options.request]
    values = {field.name: getattr(options, field.name) for field in fields(kind) if hasattr(options, field.name)}
    if "set" in values:
        values["set"] = _named_values(values["set"])
    if getattr(options, "at", None) is not None:
        values["start"], values["end"] = _time_range(options.at)
    return kind.of(values)


def perform(request: Request, *, quiet: bool) -> None:
    """Carry a request out before the eyes of whoever sits at the terminal. Raises MmfaError."""
    with TerminalWatch(quiet=quiet) as watch:
        result = request.run(watch=watch)
    if request.answers:
        tell(result.summary)
    elif not quiet:
        complain(result.summary)


def _named_values(words: Sequence[str]) -> dict[str, float]:
    """What ``--set NAME=F`` says."""
    values: dict[str, float] = {}
    for word in words:
        name, _, number = word.partition("=")
        try:
            values[name] = float(number)
        except ValueError as error:
            raise ConfigError(f"--set {word!r} isn't understood: write a name and a number, such as smile=0.8.") from error
    return values


def _time_range(text: str) -> tuple[float | None, float | None]:
    """What ``--at START:END`` says."""
    from ..requests.words import seconds

    parts = text.split(":")
    if len(parts) != 2 or text == ":":
        raise ConfigError(f"The time range {text!r} isn't understood: write it as START:END in seconds, such as 1.5:3.")
    start, end = (None if not part else seconds(part, option="--at") for part in parts)
    return start, end
