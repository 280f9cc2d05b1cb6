"""Recovery of the true attributes of drawn heads: pose, scale, translation, expression, equivariance, leakage, reenactment.

    python -m benchmarks.synthetic --model lite --heads 16 --states 16 --seed 0 [--json FILE] [--sheet FILE]

Nothing but a model is needed: the heads are drawn. What each figure means is printed beside it. These are figures on drawings,
not on video of people.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.options import ALWAYS, parse, parser, run, save
from mmfa.evaluate.recovery import DEFINITIONS, Recovery, recover
from mmfa.evaluate.synthetic import Head, random_state, render
from mmfa.media.image import contact_sheet, write_image
from mmfa.portrait import KeypointModel
from mmfa.weights import from_pretrained


def definition(name: str) -> str:
    if name in DEFINITIONS:
        return DEFINITIONS[name]
    prefix = next(key[:-1] for key in ("r2_mesh_*", "r2_relative_*", "r2_*") if name.startswith(key[:-1]))
    return DEFINITIONS[prefix + "*"]


def write_heads(path: Path, recovery: Recovery) -> None:
    """A contact sheet of the heads, each in a random state."""
    images = []
    for number in range(recovery.heads):
        head = Head.random(np.random.default_rng([recovery.seed, number]))
        images.append(render(head, random_state(np.random.default_rng([recovery.seed, number, 1]))).image)
    blank = np.full_like(images[0], 255)
    images += [blank] * (-len(images) % 4)
    write_image(path, contact_sheet([images[i : i + 4] for i in range(0, len(images), 4)]))


def main() -> None:
    made = parser(__doc__, "model", "seed", *ALWAYS)
    made.add_argument("--heads", type=int, default=16, help="drawn heads")
    made.add_argument("--states", type=int, default=16, help="random states of each head")
    made.add_argument("--sheet", type=Path, metavar="FILE", help="also write a contact sheet of the heads")
    options = parse(made)
    model = from_pretrained(options.model)
    assert isinstance(model, KeypointModel)
    recovery = recover(model, heads=options.heads, states=options.states, seed=options.seed, quiet=options.quiet)
    print("| figure | value | what it is |\n|---|---|---|")
    for name, value in recovery.figures.items():
        print(f"| {name} | {value:.4g} | {definition(name)} |")
    save(options.json, {"model": options.model, **asdict(recovery)})
    if options.sheet:
        write_heads(options.sheet, recovery)


if __name__ == "__main__":
    run(main)
