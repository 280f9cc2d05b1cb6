"""``mmfa train-vae``, ``mmfa interpolate`` and ``mmfa sample``: expressions learned, mixed and made up."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..media.files import Files
from .common import (
    MOMENT,
    PHOTO,
    PICTURES,
    VIDEOS,
    Commands,
    add_command,
    add_crop,
    add_model,
    add_output,
    add_photo,
    add_set,
    data_files,
    say,
)
from .train import add_config, config_only, trains

if TYPE_CHECKING:
    from ..train.vae import VAEConfig


def add_parser(commands: Commands) -> None:
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

    for parser, request in ((interpolate, "interpolate"), (sample, "sample")):
        add_crop(parser)
        add_model(parser)
        add_photo(parser)
        parser.set_defaults(request=request)


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
    from ..requests.base import model_files
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
