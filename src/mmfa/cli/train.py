"""``mmfa train`` and ``mmfa info``: models made, and what they cost."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .common import Files, add_command, add_no_clobber, data_files, filled, model_files
from .process import tell

if TYPE_CHECKING:
    from ..train.config import TrainConfig


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Register ``train`` and ``info``."""
    train = add_command(
        commands,
        "train",
        "train a model as a config file says; continues where it stopped",
        examples="""
            configs/finetune.yaml
            configs/lite-256.yaml --until 1000
        """,
    )
    train.add_argument("config", type=Path, metavar="CONFIG.yaml")
    train.add_argument("--until", type=int, metavar="STEP", help="stop at this step")
    train.add_argument("--quiet", action="store_true", help="no progress bars")
    add_no_clobber(train)
    train.set_defaults(run=_train, files=_files)

    info = add_command(
        commands,
        "info",
        "parameters and multiply-accumulates of each network",
        examples="""
            lite
        """,
    )
    info.add_argument("model", nargs="?", default="lite", metavar="MODEL", help="a size (paper, lite, tiny) or a folder")
    info.set_defaults(run=_info)


def _config(options: argparse.Namespace) -> TrainConfig:
    try:
        from ..train import trainer  # noqa: F401
        from ..train.config import TrainConfig
    except ModuleNotFoundError as error:
        raise ConfigError(f"Training needs {error.name}: pip install 'mmfa[train]'.") from error

    return TrainConfig.load(options.config)


def _files(options: argparse.Namespace) -> Files:
    config = _config(options)
    output = Path(config.output)
    reads = [options.config, *data_files(config.data), *([Path(config.state)] if config.state else [])]
    initial = model_files(config.init) if config.init else []
    model = [output / "model" / name for name in ("model.safetensors", "config.json")]
    return Files([*reads, *initial], [*filled(output), *model], continues=True)


def _train(options: argparse.Namespace) -> None:
    config = _config(options)
    from ..train.trainer import Trainer

    Trainer(config, quiet=options.quiet).run(until=options.until)


def _info(options: argparse.Namespace) -> None:
    from ..nets.cost import cost, format_table
    from ..weights import SIZES, build, from_pretrained

    model = build(options.model) if options.model in SIZES else from_pretrained(options.model)
    tell(format_table(cost(model)))
