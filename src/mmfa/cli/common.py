"""What several commands share: options, and how they speak."""

from __future__ import annotations

import argparse
import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, MediaError
from .process import complain

if TYPE_CHECKING:
    from ..animate import Animator, SourcePhoto
    from ..media.image import Array
    from ..motion import Motion

_CODE = "code:"
_LARGEST_CODE = 10.0
"""Codes are drawn from N(0, I): beyond this one is a mistake."""
SMALLEST_PICTURE = 16_000
"""Bytes on the disk: with less there is no use in drawing one, and none in a video."""
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
    with replacing(files.writes, inputs=files.reads, clobber=not options.no_clobber, tell=tell):
        yield


def model_files(name: str | Path) -> list[Path]:
    """What the model `name` is read from, and the networks that find a face: as far as they are there."""
    from importlib.resources import files

    from ..weights import folder_of

    own = Path(str(files("mmfa") / "priors" / "weights"))
    return [path for folder in (folder_of(name), own) if folder.is_dir() for path in sorted(folder.iterdir())]


def named_files(*words: str | Path | None) -> list[Path]:
    """The files that words of a command line name, with or without ``@SECONDS``."""
    found = []
    for word in words:
        if word is not None:
            path, at, _ = str(word).rpartition("@")
            found += [Path(word), *([Path(path)] if at and path else [])]
    return found


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
    parser.add_argument("--no-clobber", action="store_true", help="refuse to replace an older output, before the work")


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


def say_which_face(options: argparse.Namespace, path: str | Path, faces: int) -> None:
    """Name the choice when a photo, or the beginning of a driver, shows several faces."""
    if faces > 1:
        say(options, f"{path} shows {faces} faces; took number {options.face} by size (choose with --face).")


def say_driver(options: argparse.Namespace, path: str | Path, faces: int, *, held: int = 0) -> None:
    """The same of a driver, whose face is always the largest, and how many of its frames showed none."""
    if faces > 1:
        say(options, f"{path} shows {faces} faces where it begins; the motion is the largest one's (--face is the photo's).")
    if held:
        say(options, f"{path}: {held} frames showed no face: the last motion was held there.")


def say_reduced(options: argparse.Namespace, path: Path, photo: SourcePhoto) -> None:
    """Say that a photo was made smaller, and so will be the output."""
    height, width = photo.image.shape[:2]
    if photo.full_size != (width, height):
        say(options, f"{path} has {photo.full_size[0]} x {photo.full_size[1]} pixels; it was reduced to {width} x {height}.")


def add_set(parser: argparse.ArgumentParser, text: str) -> None:
    """``--set NAME=F``, repeatable: expressions by name."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=F", help=f"{text}; 1 is a strong one; of {DIRECTIONS}; repeatable"
    )
    parser.add_argument("--unclipped", action="store_true", help="keep values beyond what the model was trained on")


def set_values(options: argparse.Namespace) -> dict[str, float]:
    """What ``--set`` names, and how far to go, within what the data hold unless ``--unclipped``."""
    from ..expressions import limited_directions

    values: dict[str, float] = {}
    for word in options.set:
        name, _, number = word.partition("=")
        try:
            values[name] = float(number)
        except ValueError as error:
            raise ConfigError(f"--set {word!r} isn't understood: write a name and a number, such as smile=0.8.") from error
    with range_warnings():
        return limited_directions(values, unclipped=options.unclipped)


@contextlib.contextmanager
def range_warnings() -> Iterator[None]:
    """Print each warning about ranges once, as a sentence on stderr."""
    from ..edit import RangeWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", RangeWarning)
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        complain(f"mmfa: {text}")


def is_video(output: Path) -> bool:
    """Whether an output is a video, by its suffix."""
    from ..media.video import VIDEO_SUFFIXES

    return output.suffix.lower() in VIDEO_SUFFIXES


def check_picture_or_video(output: Path) -> None:
    """Raise MediaError before the work when neither a picture nor a video can be written at `output`."""
    from ..media.files import check_output
    from ..media.image import IMAGE_SUFFIXES

    if not is_video(output) and output.suffix.lower() not in IMAGE_SUFFIXES:
        raise MediaError(f"{output} has an unknown suffix; use .png or .jpg for a picture, .mp4 for a video.")
    check_output(output, least=SMALLEST_PICTURE)


def set_source(animator: Animator, path: Path, options: argparse.Namespace) -> Motion:
    """Make `path` the animator's source, as the options say; its own motion."""
    photo = animator.set_source(path, face=options.face, crop=not options.no_crop)
    say_which_face(options, path, photo.faces)
    say_reduced(options, path, photo)
    return photo.face.motion.to("cpu")


def single_motion(animator: Animator, text: str, options: argparse.Namespace, *, option: str) -> Motion:
    """The one motion that a photo, a motion file or ``VIDEO@SECONDS`` shows, or the source's with the expression of a code."""
    if text.startswith(_CODE):
        return _of_code(animator, text, options)
    path, at, moment = text.rpartition("@")
    if at and not Path(text).exists():
        tracked = animator.tracked_at(path, seconds(moment, option=option), crop=not options.no_crop)
    else:
        tracked = animator.motion_from(text, crop=not options.no_crop)
    if len(tracked.motion) != 1:
        raise ConfigError(f"{text} has {len(tracked.motion)} frames; say which one, as {text}@SECONDS.")
    say_driver(options, text, tracked.faces)
    return tracked.motion


def _of_code(animator: Animator, text: str, options: argparse.Namespace) -> Motion:
    """The source's motion with the expression of a code of the VAE, numbers with commas between; those left out are 0."""
    import torch

    from ..expressions import ExpressionSpace

    space = ExpressionSpace.load(options.model, model=animator.model)
    width = space.vae.params.code
    try:
        numbers = [float(word) for word in text.removeprefix(_CODE).split(",")]
    except ValueError as error:
        raise ConfigError(f"{text!r} is no code: write {_CODE} and up to {width} numbers, such as {_CODE}0.5,-1.2.") from error
    if len(numbers) > width or not all(abs(number) <= _LARGEST_CODE for number in numbers):
        raise ConfigError(f"A code has up to {width} numbers between {-_LARGEST_CODE:g} and {_LARGEST_CODE:g}, unlike {text}.")
    assert animator.source is not None
    own = animator.source.face.motion.to("cpu")
    code = torch.zeros(1, width).index_copy(1, torch.arange(len(numbers)), torch.tensor([numbers]))
    return replace(own, expression=space.decode(code), intensity=torch.ones_like(own.intensity))


def seconds(text: str, *, option: str) -> float:
    """A finite number of seconds, or ConfigError that names the option."""
    with contextlib.suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    raise ConfigError(f"{option}: {text!r} is no number of seconds.")


def write_picture(options: argparse.Namespace, image: Array) -> None:
    """Write to ``--output``, marked as synthetic, and say so."""
    from ..media.image import write_image
    from ..provenance import SYNTHETIC

    write_image(options.output, image, note=SYNTHETIC)
    say(options, f"{options.output}: {image.shape[1]} x {image.shape[0]} pixels.")
