"""What a run needs beside its averaged weights to go on, small enough for a repository.

    python tools/pack_run.py RUN -o FILE

RUN is a folder that `mmfa train` wrote. FILE holds the discriminator (fp16) and Adam's second moments (bf16) of its newest
checkpoint; `state: FILE` in a config, with `init` naming the weights, starts from them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmfa.train import checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    found = checkpoints.newest_first(options.run / "checkpoints")
    if not found:
        sys.exit(f"{options.run} holds no checkpoints.")
    try:
        checkpoints.write(checkpoints.lean(checkpoints.read(found[0])), options.output)
    except ValueError as error:
        sys.exit(f"{found[0]}: {error}")
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB, of {found[0].name}")


if __name__ == "__main__":
    main()
