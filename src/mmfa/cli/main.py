"""``mmfa``: animate, motion, info, demo, train."""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..errors import ConfigError, MediaError, MmfaError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for bad input (one sentence on stderr), 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options.run(options)
    except (MmfaError, FloatingPointError) as error:
        print(f"mmfa: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mmfa: interrupted; no unfinished file was left.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmfa", description="Animate a portrait photo from a driving video, and steer the motion."
    )
    parser.add_argument("--version", action="version", version=f"mmfa {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    animate = commands.add_parser("animate", help="a photo and a driving video in, a video out")
    animate.add_argument("source", type=Path, metavar="SOURCE", help="portrait photo")
    animate.add_argument("driving", type=Path, metavar="DRIVING", help="driving video, or a motion file (.safetensors)")
    animate.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mp4")
    animate.add_argument("--mode", choices=("relative", "absolute"), default="relative", help="default: relative")
    animate.add_argument(
        "--anchor", type=_anchor, default="auto", metavar="auto|first|N", help="driving frame that relative motion starts from"
    )
    animate.add_argument("--no-crop", action="store_true", help="the pictures already are face crops")
    _add_model(animate)
    _add_common(animate)
    animate.set_defaults(run=_animate)

    motion = commands.add_parser("motion", help="extract the motion of a video into a file")
    motion.add_argument("video", type=Path, metavar="VIDEO")
    motion.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.safetensors")
    motion.add_argument("--no-crop", action="store_true", help="the video already is a face crop")
    _add_model(motion)
    _add_common(motion)
    motion.set_defaults(run=_motion)

    info = commands.add_parser("info", help="parameters and multiply-accumulates of each network")
    info.add_argument("model", nargs="?", default="lite", metavar="MODEL", help="a size (paper, lite, tiny) or a folder")
    info.set_defaults(run=_info)

    demo = commands.add_parser("demo", help="animate the packaged portrait by the packaged video")
    demo.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="FOLDER", help="default: demo")
    demo.add_argument("--source", type=Path, help="your photo instead")
    demo.add_argument("--driving", type=Path, help="your video instead")
    _add_model(demo)
    _add_common(demo)
    demo.set_defaults(run=_demo)

    train = commands.add_parser("train", help="train a model as a config file says; continues where it stopped")
    train.add_argument("config", type=Path, metavar="CONFIG.yaml")
    train.add_argument("--until", type=int, metavar="STEP", help="stop at this step")
    train.add_argument("--quiet", action="store_true")
    train.set_defaults(run=_train)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="lite", metavar="NAME|DIR", help="a shipped model or a folder; default: lite")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--face", type=_index, default=0, metavar="N", help="which face, largest first; default: 0")
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no report")


def _index(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _anchor(text: str) -> int | str:
    return text if text in ("auto", "first") else _index(text)


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.quiet:
        print(text, file=sys.stderr)


def _animate(options: argparse.Namespace) -> None:
    from ..media.files import check_input

    for path in (options.source, options.driving):
        check_input(path)
    _check_video_output(options.output)
    _run_animation(options, options.source, options.driving, options.output)


def _run_animation(options: argparse.Namespace, source: Path, driving: Path, output: Path) -> None:
    from ..animate import Animator

    crop = not getattr(options, "no_crop", False)
    animator = Animator.from_pretrained(options.model, device=options.device, quiet=options.quiet)
    photo = animator.set_source(source, face=options.face, crop=crop)
    if photo.faces > 1:
        _say(options, f"{source} shows {photo.faces} faces; took number {options.face} by size (choose with --face).")
    report = animator.animate(
        driving,
        output,
        mode=getattr(options, "mode", "relative"),
        anchor=getattr(options, "anchor", "auto"),
        crop=crop,
    )
    if report.held:
        _say(options, f"{report.held} of {report.frames} driving frames showed no face: the last motion was held there.")
    _say(options, f"{report.output}: {report.frames} frames at {report.fps:g} fps.")


def _check_video_output(output: Path) -> None:
    """Say that the output can't be written before the work, not after it."""
    from ..media.files import check_output
    from ..media.video import VideoWriter

    VideoWriter(output, fps=25, size=(64, 64))
    check_output(output)


def _motion(options: argparse.Namespace) -> None:
    from ..animate import Animator
    from ..media.files import check_input, check_output

    check_input(options.video)
    if options.output.suffix.lower() != ".safetensors":
        raise MediaError(f"{options.output} has an unknown motion suffix; use .safetensors.")
    check_output(options.output)
    animator = Animator.from_pretrained(options.model, device=options.device, quiet=options.quiet)
    tracked = animator.motion_of(options.video, face=options.face, crop=not options.no_crop)
    tracked.motion.save(options.output)
    if tracked.held:
        _say(options, f"{tracked.held} frames showed no face: the last motion was held there.")
    _say(options, f"{options.output}: {len(tracked.motion)} frames.")


def _info(options: argparse.Namespace) -> None:
    from ..nets.cost import cost, format_table
    from ..weights import SIZES, build, from_pretrained

    model = build(options.model) if options.model in SIZES else from_pretrained(options.model)
    print(format_table(cost(model)))


def _demo(options: argparse.Namespace) -> None:
    from ..demo import DRIVING, SOURCE, packaged, write_sheet
    from ..media.files import check_input

    source = options.source or packaged(*SOURCE)
    driving = options.driving or packaged(*DRIVING)
    for path in (source, driving):
        check_input(path)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"The folder {options.output} cannot be made: {error.strerror}.") from error
    output, sheet = options.output / "demo.mp4", options.output / "demo.png"
    _run_animation(options, source, driving, output)
    write_sheet(source, driving, output, sheet)
    print(f"video: {output}\nsheet: {sheet}")


def _train(options: argparse.Namespace) -> None:
    try:
        from ..train.config import TrainConfig
        from ..train.trainer import Trainer
    except ModuleNotFoundError as error:
        raise ConfigError(f"Training needs {error.name}: pip install 'mmfa[train]'.") from error

    Trainer(TrainConfig.load(options.config), quiet=options.quiet).run(until=options.until)


if __name__ == "__main__":
    sys.exit(main())
