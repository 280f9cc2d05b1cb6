"""Posterior collapse of the expression VAE, and its cure: the same training with and without the adversarial term.

    python -m research.collapse DATA --cache CACHE [--model lite] [--kl 1.5] [--adversarial 5] [--steps 2500]

DATA and CACHE as for `mmfa train-vae`; trained on the split "train". Rows: the plain VAE and the adversarial one at a KL weight
at which the plain one collapses, and both with the weights of the shipped VAE. The first four measures are taken on the people
of the split "val", who were not trained on; the last two on those of "train", as samples are meant to be like them.

active       code units whose posterior mean has a variance over 0.01 on the data
kl           nats per frame, mean
error        squared error of decoding the posterior mean over the data's variance: 1 is no better than the mean face
keypoint_pc  mean distance of the keypoints in the image plane after encoding and decoding, in % of the distance of the outer
             eye corners
variance     total variance of decoded samples z ~ N(0,I) over the data's: 0 is one constant expression
fd_f         Frechet distance of decoded samples to the data, on whitened features; in brackets that of two random halves of
             the data to each other, the least it could be
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.options import parse, parser, run, save
from mmfa.models.mmfa import MMFA
from mmfa.nets.anchors import VERTICES
from mmfa.nets.vae import ExpressionVAE
from mmfa.train.vae import ExpressionData, VAEConfig, expression_data, fit, measure
from mmfa.weights import from_pretrained


@torch.no_grad()
def keypoint_error(model: MMFA, vae: ExpressionVAE, data: ExpressionData) -> float:
    decoded = vae.decode(vae.encode(data.feature).mean)
    lost = model.expression_decoder(decoded, data.canonical) - model.expression_decoder(data.feature, data.canonical)
    corners: Tensor = data.canonical[:, VERTICES.index(33)] - data.canonical[:, VERTICES.index(263)]
    return float(data.weight @ (lost[..., :2].norm(dim=-1).mean(1) / corners.norm(dim=1))) * 100


def main() -> None:
    made = parser(__doc__, "data", "model", "seed", "threads", "json", cache={"required": True})
    made.add_argument("--kl", type=float, default=1.5, help="loss_kl of the first two rows")
    made.add_argument("--adversarial", type=float, default=5.0, help="loss_adversarial of the second row")
    made.add_argument("--steps", type=int, default=VAEConfig.steps, help="training steps of each VAE")
    options = parse(made)
    base = VAEConfig(
        data=str(options.data), cache=str(options.cache), output=".", model=options.model, seed=options.seed, steps=options.steps
    )
    model = from_pretrained(options.model)
    assert isinstance(model, MMFA)
    train, val = (expression_data(model, base, split=split) for split in ("train", "val"))
    weights = [
        ("plain", options.kl, 0.0),
        ("adversarial", options.kl, options.adversarial),
        ("shipped weights, plain", base.loss_kl, 0.0),
        ("shipped weights", base.loss_kl, base.loss_adversarial),
    ]
    rows = {}
    print("| VAE | loss_kl | loss_adversarial | active | kl | error | keypoint_pc | variance | fd_f |\n|" + "---|" * 9)
    for name, kl, adversarial in weights:
        config = replace(base, loss_kl=kl, loss_adversarial=adversarial)
        vae = fit(train.feature, train.weight, config)
        found, distance = measure(vae, val.feature, val.weight), keypoint_error(model, vae, val)
        drawn = measure(vae, train.feature, train.weight)
        rows[name] = {"val": vars(found), "train": vars(drawn), "keypoint_pc": distance}
        print(
            f"| {name} | {kl:g} | {adversarial:g} | {found.active_units} | {found.kl:.2f} | {found.reconstruction_error:.3f} "
            f"| {distance:.2f} | {drawn.sample_variance:.3f} | {drawn.sample_distance:.2f} ({drawn.real_distance:.2f}) |",
            flush=True,
        )
    save(options.json, rows)


if __name__ == "__main__":
    run(main)
