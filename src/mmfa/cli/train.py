"""``mmfa train`` and ``mmfa info``: models made, and what they cost."""

from __future__ import annotations

import argparse

from ..errors import ConfigError

_EXAMPLES = """examples:
  mmfa train --list                                      the configs that come with mmfa
  mmfa train finetune --set data=clips --set steps=200   one of them, with other keys
  mmfa train finetune --print > mine.yaml                or a copy to edit
  mmfa train mine.yaml                                   the same command continues where it stopped
  torchrun --nproc_per_node 4 -m mmfa train paper-256    on four GPUs
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Register ``train`` and ``info``."""
    train = commands.add_parser(
        "train",
        help="train a model as a config says; continues where it stopped",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(train)
    train.add_argument("--until", type=_step, metavar="STEP", help="stop at this step")
    train.set_defaults(run=_train)

    info = commands.add_parser("info", help="parameters and multiply-accumulates of each network")
    info.add_argument("model", nargs="?", default="lite", metavar="MODEL", help="a size (paper, lite, tiny) or a folder")
    info.set_defaults(run=_info)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Which config, what to change in it, and ``--quiet``: for `config_only` and `shipped.with_values`."""
    parser.add_argument("config", nargs="?", metavar="NAME|FILE.yaml", help="a config that comes with mmfa, or a file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value for a key; repeatable")
    parser.add_argument("--list", action="store_true", help="name the configs that come with mmfa, and end")
    parser.add_argument("--print", action="store_true", help="print the config, to copy and edit it, and end")
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no report")


def config_only(options: argparse.Namespace, *, vae: bool = False) -> bool:
    """Do what ``--list`` and ``--print`` ask for; whether they did. Raises ConfigError when no config is named."""
    from ..train.shipped import about, config_path, names

    if options.list:
        known = names(vae=vae)
        width = max(map(len, known)) + 2
        print("\n".join(f"{name:{width}}{about(name, vae=vae)}" for name in known))
        return True
    if options.config is None:
        command = "train-vae" if vae else "train"
        raise ConfigError(f"Say which config: a name that `mmfa {command} --list` shows, or a YAML file.")
    if options.print:
        from ..media.files import check_input

        if options.set:
            raise ConfigError("--print shows the config as it is; leave out --set, and edit the copy.")
        path = check_input(config_path(options.config, vae=vae))
        try:
            print(path.read_text(encoding="utf-8"), end="")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not a text file.") from error
    return bool(options.print)


def _step(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _train(options: argparse.Namespace) -> None:
    if config_only(options):
        return
    try:
        from ..train.config import TrainConfig
        from ..train.trainer import Trainer
    except ModuleNotFoundError as error:
        raise ConfigError(f"Training needs {error.name}: pip install 'mmfa[train]'.") from error
    from ..train.shipped import config_path, with_values

    config = with_values(TrainConfig.load(config_path(options.config)), options.set)
    Trainer(config, quiet=options.quiet).run(until=options.until)


def _info(options: argparse.Namespace) -> None:
    from ..nets.cost import cost, format_table
    from ..weights import SIZES, build, from_pretrained

    model = build(options.model) if options.model in SIZES else from_pretrained(options.model)
    print(format_table(cost(model)))
