"""Anchor the motion networks of a trained model anew, or give it those of another; its image networks stay as they are.

    python tools/anchor_motion.py MODEL OUT --data DATA --cache CACHE [--steps 1200] [--fps 8.4]
    python tools/anchor_motion.py MODEL OUT --data DATA --cache CACHE --looks
    python tools/anchor_motion.py MODEL OUT --motion FOLDER

The first is stage 0 of training (`mmfa.train.anchoring`) and takes a minute and a half of one CPU thread: keypoints stay on
the landmarks, but are divided anew between x_c, scale and expression. The expression feature changes: an expression VAE and
directions made for MODEL don't fit any more (`mmfa train-vae`). The second leaves all that as it is, and only gives the canonical
detector its eye for pictures (`mmfa.train.looks`), or fits it anew. The third copies what the first two made, into a model whose
image networks were trained further since. MODEL and FOLDER are shipped names or folders.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from mmfa.models.lite.model import LiteMMFA
from mmfa.train.anchoring import IDENTITY_DIRECTIONS, anchor
from mmfa.train.cache import prepare
from mmfa.train.data import ClipDataset
from mmfa.train.looks import fit_looks, looks_at_pictures
from mmfa.weights import from_pretrained, save_pretrained


def loaded(name: str) -> LiteMMFA:
    """A model whose keypoints can be anchored. Raises ModelError for another one."""
    model = from_pretrained(name)
    model.card.require("anchored")
    assert isinstance(model, LiteMMFA)
    return model


def with_looks(model: LiteMMFA) -> LiteMMFA:
    """The model with a canonical detector that looks at pictures, not fitted yet; itself if it does already."""
    if looks_at_pictures(model):
        return model
    canonical = replace(model.params.canonical, directions=IDENTITY_DIRECTIONS)
    sighted = LiteMMFA(replace(model.params, canonical=canonical)).eval().requires_grad_(False)
    sighted.load_state_dict({**sighted.state_dict(), **model.state_dict()})
    return sighted


def copy_motion(model: LiteMMFA, other: LiteMMFA) -> None:
    """Give `model` the motion networks of `other`, and the mean mesh that they start from."""
    model.mean_mesh.copy_(other.mean_mesh)
    for mine, theirs in zip(model.motion_networks(), other.motion_networks(), strict=True):
        mine.load_state_dict(theirs.state_dict())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="a folder of face-crop clips, or what `mmfa prepare` made")
    source.add_argument("--motion", help="the model whose motion networks to take")
    parser.add_argument("--cache", type=Path, help="where the clips' frames and landmarks are cached; OUT/cache by default")
    parser.add_argument("--fps", type=float, default=8.4)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--looks", action="store_true", help="fit nothing but what the canonical detector takes from pictures")
    options = parser.parse_args()
    model = loaded(options.model)
    if options.motion:
        other = loaded(options.motion)
        model = with_looks(model) if looks_at_pictures(other) else model
        copy_motion(model, other)
    else:
        cache = options.cache or options.out / "cache"
        data = ClipDataset(prepare(options.data, cache, fps=options.fps), size=model.card.size)
        torch.manual_seed(options.seed)
        if not options.looks:
            anchor(model, data, steps=options.steps, batch=options.batch, seed=options.seed)
        else:
            model = with_looks(model)
        if looks_at_pictures(model):
            fit_looks(model, data)
    save_pretrained(model, options.out)


if __name__ == "__main__":
    main()
