"""``mmfa train`` and ``mmfa info``: models made, and what they cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ConfigError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Register ``train`` and ``info``."""
    train = commands.add_parser("train", help="train a model as a config file says; continues where it stopped")
    train.add_argument("config", type=Path, metavar="CONFIG.yaml")
    train.add_argument("--until", type=int, metavar="STEP", help="stop at this step")
    train.add_argument("--quiet", action="store_true", help="no progress bars")
    train.set_defaults(run=_train)

    info = commands.add_parser("info", help="parameters and multiply-accumulates of each network")
    info.add_argument("model", nargs="?", default="lite", metavar="MODEL", help="a size (paper, small, lite, tiny) or a folder")
    info.set_defaults(run=_info)


def _train(options: argparse.Namespace) -> None:
    try:
        from ..train.config import TrainConfig
        from ..train.trainer import Trainer
    except ModuleNotFoundError as error:
        raise ConfigError(f"Training needs {error.name}: pip install 'mmfa[train]'.") from error

    Trainer(TrainConfig.load(options.config), quiet=options.quiet).run(until=options.until)


def _info(options: argparse.Namespace) -> None:
    from ..nets.cost import cost, format_table
    from ..weights import SIZES, build, from_pretrained

    model = build(options.model) if options.model in SIZES else from_pretrained(options.model)
    print(format_table(cost(model)))
