"""``mmfa train-vae``, ``mmfa interpolate`` and ``mmfa sample``: expressions learned, mixed and made up."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .common import (
    MOMENT,
    PHOTO,
    PICTURES,
    VIDEOS,
    Files,
    add_command,
    add_common,
    add_model,
    add_output,
    add_set,
    check_picture_or_video,
    data_files,
    is_video,
    model_files,
    named_files,
    say,
    set_source,
    set_values,
    single_motion,
    write_picture,
)
from .train import add_config, config_only, trains

if TYPE_CHECKING:
    from ..animate import Animator
    from ..expressions import ExpressionSpace
    from ..motion import Motion
    from ..train.vae import VAEConfig

_LARGEST_SHEET = 400


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Register ``train-vae``, ``interpolate`` and ``sample``."""
    train = add_command(
        commands,
        "train-vae",
        "train the expression VAE of a model as a config says",
        examples="""
            --list
            lite --set data=data/mine
        """,
    )
    add_config(train)
    train.set_defaults(run=_train_vae, files=_train_vae_files)

    way = "neutral, source, a photo, a motion file, VIDEO@SECONDS, or code:NUMBERS"
    interpolate = add_command(
        commands,
        "interpolate",
        "from one expression to another, on the way the expressions between",
        examples="""
            me.jpg --from neutral --to talk.mp4@2.5 -o grid.png
            me.jpg --from source --via friend.jpg --to source -o there-and-back.mp4
        """,
    )
    interpolate.add_argument("source", type=Path, metavar="SOURCE", help=PHOTO)
    interpolate.add_argument("--from", dest="first", required=True, metavar="A", help=f"{way}; {MOMENT}")
    interpolate.add_argument(
        "--via", action="append", default=[], metavar="C", help="a waypoint between, like A; can be repeated"
    )
    interpolate.add_argument("--to", dest="last", required=True, metavar="B", help="where to, like A")
    interpolate.add_argument("--steps", type=int, metavar="N", help="frames from waypoint to waypoint; default: 6, video 25")
    interpolate.add_argument("--pose", choices=("keep", "A", "B"), default="keep", help="the source's (default), or a waypoint's")
    add_set(interpolate, "move B along a named direction before")
    add_output(interpolate, "OUT", f"a sheet ({PICTURES}), one row from waypoint to waypoint, or a video ({VIDEOS})")

    sample = add_command(
        commands,
        "sample",
        "expressions that nobody made, drawn from the expression VAE",
        examples="""
            me.jpg --n 9 --seed 1 -o faces.png
            me.jpg --seconds 10 -o alive.mp4
        """,
    )
    sample.add_argument("source", type=Path, metavar="SOURCE", help=PHOTO)
    sample.add_argument("--n", type=int, metavar="N", help="how many, in a picture; default: 9")
    sample.add_argument("--seconds", type=float, metavar="F", help="length of a video, a loop; default: 6")
    sample.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed draws the same; default: 0")
    sample.add_argument("--temperature", type=float, default=1.0, metavar="F", help="below 1 tamer, up to 2; default: 1")
    add_set(sample, "move every expression along a named direction")
    add_output(sample, "OUT", f"a sheet ({PICTURES}), or a video ({VIDEOS}) that wanders from expression to expression")

    for parser, run in ((interpolate, _interpolate), (sample, _sample)):
        parser.add_argument("--no-crop", action="store_true", help="the pictures already are face crops")
        add_model(parser)
        add_common(parser)
        parser.set_defaults(run=run, files=_files)


def _files(options: argparse.Namespace) -> Files:
    ways = [options.first, *options.via, options.last] if hasattr(options, "first") else []
    return Files([*named_files(options.source, *ways), *model_files(options.model)], [options.output])


def _vae_config(options: argparse.Namespace) -> VAEConfig:
    try:
        from ..train.vae import VAEConfig
    except ModuleNotFoundError as error:
        raise ConfigError(f"Training needs {error.name}: pip install 'mmfa[train]'.") from error

    from ..train.shipped import config_path, with_values

    return with_values(VAEConfig.load(config_path(options.config, vae=True)), options.set)


def _train_vae_files(options: argparse.Namespace) -> Files:
    if not trains(options):
        return Files([], [])
    config = _vae_config(options)
    from ..train.shipped import config_path

    written = [Path(config.output) / name for name in ("vae.safetensors", "vae.json")]
    # The VAE lies in its model's folder, but training it reads the model alone.
    reads = [path for path in model_files(config.model) if path.name not in {name.name for name in written}]
    return Files([config_path(options.config, vae=True), *data_files(config.data), *reads], written)


def _train_vae(options: argparse.Namespace) -> None:
    if config_only(options, vae=True):
        return
    config = _vae_config(options)
    from ..train.vae import train_vae

    measures = train_vae(config, quiet=options.quiet)
    say(
        options,
        f"{config.output}/vae.safetensors: {measures.active_units} of {config.code} units active, "
        f"{measures.reconstruction_error:.1%} of the variance lost, samples have {measures.sample_variance:.0%} of it.",
    )


def _interpolate(options: argparse.Namespace) -> None:
    from ..animate import DEFAULT_FPS
    from ..expressions import interpolate_motions

    values = set_values(options)
    to_video = is_video(options.output)
    steps = (25 if to_video else 6) if options.steps is None else options.steps
    names = [options.first, *options.via, options.last]
    if not 1 <= steps <= 10_000:
        raise ConfigError(f"--steps lies between 1 and 10000, not {steps}.")
    if not to_video and steps * (len(names) - 1) > _LARGEST_SHEET:
        raise ConfigError(f"A sheet of {steps * (len(names) - 1)} pictures is too large; write a video, or take fewer --steps.")
    if values and options.last == "neutral":
        raise ConfigError("A neutral expression doesn't move along a direction: leave out --set, or end elsewhere than neutral.")
    animator, space, own = _ready(options)
    waypoints = [_waypoint(animator, own, text, options) for text in names]
    poses = {"keep": own, "A": waypoints[0], "B": waypoints[-1]}
    last = waypoints[-1]
    waypoints[-1] = replace(last, expression=space.set(last.expression, values))
    path = replace(interpolate_motions(space, waypoints, steps=steps, pose=poses[options.pose]), fps=DEFAULT_FPS)
    if to_video:
        _write_video(animator, path, options)
    else:
        starts = range(0, len(path) - 1, steps)
        _write_sheet(animator, path, [range(start, start + steps + 1) for start in starts], options)


def _sample(options: argparse.Namespace) -> None:
    import torch

    from ..animate import DEFAULT_FPS

    values = set_values(options)
    to_video = is_video(options.output)
    if to_video and options.n is not None:
        raise ConfigError("--n counts the faces of a picture; a video has --seconds.")
    if not to_video and options.seconds is not None:
        raise ConfigError("--seconds is the length of a video; a picture has --n.")
    count, seconds = 9 if options.n is None else options.n, 6.0 if options.seconds is None else options.seconds
    if not 1 <= count <= _LARGEST_SHEET:
        raise ConfigError(f"--n lies between 1 and {_LARGEST_SHEET}, not {count}.")
    if not 0.2 <= seconds <= 3600:
        raise ConfigError(f"--seconds lies between 0.2 and 3600, not {seconds:g}.")
    if not 0 <= options.seed < 2**63:
        raise ConfigError(f"--seed is a number from 0, not {options.seed}.")
    animator, space, own = _ready(options)
    generator = torch.Generator().manual_seed(options.seed)
    if to_video:
        frames = round(seconds * DEFAULT_FPS)
        drawn = space.walk(frames, fps=DEFAULT_FPS, generator=generator, temperature=options.temperature)
    else:
        drawn = space.sample(count, generator, temperature=options.temperature)
    motion = replace(own.expand(len(drawn)), expression=space.set(drawn, values), fps=DEFAULT_FPS)
    if to_video:
        _write_video(animator, motion, options)
    else:
        columns = math.ceil(math.sqrt(count))
        _write_sheet(animator, motion, [range(i, min(i + columns, count)) for i in range(0, count, columns)], options)


def _ready(options: argparse.Namespace) -> tuple[Animator, ExpressionSpace, Motion]:
    """The animator with its source, the space of its expressions, and the source's motion."""
    from ..animate import Animator
    from ..expressions import ExpressionSpace
    from ..media.files import check_input

    check_input(options.source)
    check_picture_or_video(options.output)
    animator = Animator.from_pretrained(options.model, device=options.device, quiet=options.quiet)
    space = ExpressionSpace.load(options.model, model=animator.model)
    return animator, space, set_source(animator, options.source, options)


def _waypoint(animator: Animator, own: Motion, text: str, options: argparse.Namespace) -> Motion:
    """One motion by what the user calls it."""
    from ..edit import neutralise

    if text == "source":
        return own
    if text == "neutral":
        return neutralise(own)
    return single_motion(animator, text, options, option=text)


def _write_video(animator: Animator, motion: Motion, options: argparse.Namespace) -> None:
    animator.write(motion, options.output)
    say(options, f"{options.output}: {len(motion)} frames.")


def _write_sheet(animator: Animator, motion: Motion, rows: list[range], options: argparse.Namespace) -> None:
    from ..media.image import contact_sheet

    faces = list(animator.render(motion, paste_back=False))
    write_picture(options, contact_sheet([[faces[i] for i in row] for row in rows]))
