"""``mmfa train`` and ``mmfa info``: models made, and what they cost."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..media.files import Files
from .common import Commands, add_command, add_no_clobber, data_files, filled
from .process import tell

if TYPE_CHECKING:
    from ..train.config import TrainConfig


def add_parser(commands: Commands) -> None:
    """Register ``train`` and ``info``."""
    train = add_command(
        commands,
        "train",
        "train a model as a config says; continues where it stopped",
        examples="""
            --list
            finetune --set data=clips --set steps=200
            finetune --print > mine.yaml
            mine.yaml
        """,
    )
    add_config(train)
    train.add_argument("--until", type=_step, metavar="STEP", help="stop at this step")
    train.set_defaults(run=_train, files=_files)

    info = add_command(
        commands,
        "info",
        "parameters and multiply-accumulates of each network",
        examples="""
            lite
        """,
    )
    info.add_argument("model", nargs="?", default="lite", metavar="MODEL", help="a size (paper, small, lite, tiny) or a folder")
    info.set_defaults(run=_info)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Which config, what to change in it, and ``--quiet``: for `config_only` and `shipped.with_values`."""
    parser.add_argument("config", nargs="?", metavar="NAME|FILE.yaml", help="a config that comes with mmfa, or a file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value for a key; repeatable")
    parser.add_argument("--list", action="store_true", help="name the configs that come with mmfa, and end")
    parser.add_argument("--print", action="store_true", help="print the config, to copy and edit it, and end")
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no report")
    add_no_clobber(parser)


def config_only(options: argparse.Namespace, *, vae: bool = False) -> bool:
    """Do what ``--list`` and ``--print`` ask for; whether they did. Raises ConfigError when no config is named."""
    from ..train.shipped import config_text, listing

    if options.list:
        tell(listing(vae=vae))
    elif options.config is None:
        command = "train-vae" if vae else "train"
        raise ConfigError(f"Say which config: a name that `mmfa {command} --list` shows, or a YAML file.")
    elif options.print:
        if options.set:
            raise ConfigError("--print shows the config as it is; leave out --set, and edit the copy.")
        tell(config_text(options.config, vae=vae))
    return bool(options.list or options.print)


def trains(options: argparse.Namespace) -> bool:
    """Whether a config is to be carried out, and not only shown."""
    return options.config is not None and not options.list and not options.print


def _step(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _config(options: argparse.Namespace) -> TrainConfig:
    try:
        from ..train.config import TrainConfig
        from ..train.trainer import Trainer  # noqa: F401  # its packages too, before the work
    except ModuleNotFoundError as error:
        raise ConfigError(f"Training needs {error.name}: pip install 'mmfa[train]'.") from error
    from ..train.shipped import config_path, with_values

    return with_values(TrainConfig.load(config_path(options.config)), options.set)


def _files(options: argparse.Namespace) -> Files:
    if not trains(options):
        return Files([], [])
    config = _config(options)
    from ..requests.base import model_files
    from ..train.shipped import config_path, state_path

    output, state = Path(config.output), state_path(config.state) if config.state else None
    reads = [config_path(options.config), *data_files(config.data), *([state] if state else [])]
    initial = model_files(config.init) if config.init else []
    model = [output / "model" / name for name in ("model.safetensors", "config.json")]
    return Files([*reads, *initial], [*filled(output), *model], continues=True)


def _train(options: argparse.Namespace) -> None:
    if config_only(options):
        return
    config = _config(options)
    from ..train.trainer import Trainer

    Trainer(config, quiet=options.quiet).run(until=options.until)


def _info(options: argparse.Namespace) -> None:
    from ..cost import cost, format_table
    from ..registry import build, sizes
    from ..weights import from_pretrained

    model = build(options.model) if options.model in sizes() else from_pretrained(options.model)
    tell(format_table(cost(model)))
