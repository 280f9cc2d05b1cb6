"""What several commands share: options, and how they speak."""

from __future__ import annotations

import argparse
import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import ConfigError, MmfaError
from ..media.files import Files, replacing
from .process import complain, tell
from .terminal import TerminalWatch

if TYPE_CHECKING:
    from ..requests import Request

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Where commands are registered."""
DIRECTIONS = "jaw_open, smile, blink_left, blink_right, brow_raise, gaze_x, gaze_y"

PHOTO = "portrait photo: JPEG, PNG, WebP or another picture"
DRIVER = "photo, video, or motion file (.safetensors)"
MOMENT = "VIDEO@SECONDS is one frame of a video, such as talk.mp4@2.4"
PICTURES, VIDEOS = ".png, .jpg, .webp, .bmp or .tif", ".mp4, .mov or .mkv"
"""What the help texts call the suffixes that can be written."""


# -- files --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def guarded(options: argparse.Namespace) -> Iterator[None]:
    """Stand around a command, so that it overwrites no input, and no older output without a word; see `replacing`.

    A command that writes files says which by ``set_defaults(files=...)``, a function from its options to `Files`.
    """
    if not hasattr(options, "files"):
        yield
        return
    files: Files = options.files(options)
    tell = None if files.continues else functools.partial(say, options)
    with replacing(files.writes, inputs=files.reads, clobber=options.clobber, tell=tell):
        yield


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


def add_command(commands: Commands, name: str, text: str, *, examples: str) -> argparse.ArgumentParser:
    """The parser of a command: `text` in the list of commands and above its own help, `examples`, a line each, below it."""
    lines = "\n".join(f"  mmfa {name} {line.strip()}" for line in examples.strip().splitlines())
    parser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(parser=parser)
    return parser


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


def add_photo(parser: argparse.ArgumentParser) -> None:
    """``--resolution``, and what `add_common` adds."""
    parser.add_argument(
        "--resolution", type=int, default=1920, metavar="N", help="pixels of the photo's longer side, at most; default: 1920"
    )
    add_common(parser)


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


def in_options(parser: argparse.ArgumentParser) -> Callable[[str], str]:
    """What puts a command's options where the sentences of a request name its fields, in backticks: --from for `driving`."""
    options = {action.dest: max(action.option_strings, key=len, default=str(action.metavar)) for action in parser._actions}
    return lambda text: re.sub(r"`(\w+)`", lambda found: options.get(found[1], found[0]), text)


def perform(request: Request, *, quiet: bool, word: Callable[[str], str] = str) -> None:
    """Carry a request out before the eyes of whoever sits at the terminal. Raises MmfaError.

    word: turns the request's sentences into those that are shown; see `in_options`.
    """
    try:
        with TerminalWatch(quiet=quiet, word=word) as watch:
            result = request.run(watch=watch)
    except MmfaError as error:
        raise type(error)(word(str(error))) from error
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
    start, end = (None if not part else seconds(part, what="--at") for part in parts)
    return start, end
