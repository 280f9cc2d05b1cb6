"""The table of losses: for each what it compares, whose it is, when it is measured, and how much it weighs.

A loss is one field of `LossWeights`. From there come the key of a config, what the objective measures and adds up, the column of
the log, the comment in the configs that ship, and the table of docs/training.md. Its function is in `losses`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Literal

Stage = Literal["motion", "picture", "discriminator"]
STAGES: tuple[Stage, ...] = ("motion", "picture", "discriminator")
"""What a loss needs: keypoints and motion, and so nothing drawn; the drawn picture; or the discriminator as well."""
Source = Literal["paper", "reference", "ours"]
"""Whose it is: the paper's; that of Face-vid2vid, to which the paper refers for it; or none of theirs."""

_WHEN = {"motion": "every step", "picture": "from `draw_from` on", "discriminator": "from `gan_from` on"}
_SOURCES = {"paper": "", "reference": "Face-vid2vid", "ours": "ours"}


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One loss, a column of the log.

    short: what it compares, in a few words; compares: in full. symbol, equation: the paper's, empty where it has none.
    keypoints: which models have it; None: all. always: whether it is measured for the log at a weight of 0, too.
    weight: what it is multiplied by in the sum, by default; 0: off.
    """

    name: str
    weight: float
    short: str
    compares: str
    source: Source
    symbol: str
    equation: str
    stage: Stage
    keypoints: Literal["anchored", "free"] | None
    always: bool

    @property
    def key(self) -> str:
        """Its weight in a config."""
        return f"loss_{self.name}"

    @property
    def comment(self) -> str:
        """What a config says of it behind its weight."""
        own = f"{self.symbol}, {self.equation}: " if self.symbol else ""
        return f"{own}{self.short}" + ("; ours" if self.source == "ours" else "")

    @property
    def when(self) -> str:
        """When it is measured, in words."""
        of = f", {self.keypoints} keypoints" if self.keypoints else ""
        return _WHEN[self.stage] + of + ("; at 0 for the log alone" if self.always else "")


def _loss(
    weight: float,
    short: str,
    compares: str = "",
    *,
    source: Source,
    symbol: str = "",
    equation: str = "",
    stage: Stage = "picture",
    keypoints: Literal["anchored", "free"] | None = None,
    always: bool = False,
) -> float:
    """A row of the table: a field of `LossWeights` that knows its `Loss`, but for its name."""
    what = {"short": short, "compares": compares or short, "source": source, "symbol": symbol, "equation": equation}
    row = what | {"weight": weight, "stage": stage, "keypoints": keypoints, "always": always}
    value: float = field(default=weight, metadata=row)
    return value


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """The table: the keys `loss_*` of a training config, each the weight of a loss, 0 or more. 0 switches it off."""

    loss_pixel: float = _loss(5.0, "L1 at every output size", source="ours")
    loss_share: float = _loss(
        0.0,
        "how much is painted over the photo",
        "the share of paint outside open mouths and eyes: where the moved photo does as well, its texture is to stay",
        source="ours",
        keypoints="anchored",
    )
    loss_around: float = _loss(
        0.0,
        "L1 around the face",
        "L1 of the moved person over the backdrop to the driving picture, outside the face: hair, neck and shoulders follow",
        source="ours",
        keypoints="anchored",
    )
    loss_matte: float = _loss(
        0.0,
        "L1 of the person's outline",
        "L1 of the photo's matte, moved, to the driving picture's, outside the face",
        source="ours",
        keypoints="anchored",
    )
    loss_detail: float = _loss(15.0, "L1 around mouth and eyes", source="ours")
    loss_perceptual: float = _loss(
        1.0,
        "feature maps",
        "distance of feature maps, at every output size and down a pyramid with `pyramid: true`",
        source="paper",
        symbol="L_P",
        equation="eq. 6",
    )
    loss_face: float = _loss(
        0.0,
        "feature maps of a face network",
        "distance of feature maps of a face network, finest output",
        source="paper",
        symbol="L_P",
        equation="appendix A.2",
    )
    loss_gan: float = _loss(
        0.0,
        "least squares GAN",
        "least squares GAN; with `gan: relative` on paired patches",
        source="paper",
        symbol="L_G",
        equation="eq. 14",
        stage="discriminator",
        always=True,
    )
    loss_matching: float = _loss(
        0.0,
        "feature maps of the discriminator",
        "feature matching: distance of the discriminator's feature maps",
        source="paper",
        symbol="L_G",
        equation="appendix A.2",
        stage="discriminator",
        always=True,
    )
    loss_equivariance: float = _loss(
        0.0,
        "keypoints of the bent picture",
        "keypoints move as the picture is bent (affine and thin-plate spline), canonical keypoints estimated anew",
        source="paper",
        symbol="L_E",
        equation="eq. 15",
        stage="motion",
    )
    loss_prior: float = _loss(
        0.0,
        "keypoints apart, at a mean depth",
        "keypoints apart, their mean depth `prior_depth`",
        source="reference",
        symbol="L_L",
        equation="eq. 14",
        stage="motion",
    )
    loss_deformation: float = _loss(
        0.5,
        "small deformations",
        source="paper",
        symbol="L_delta",
        equation="eq. 14",
        stage="motion",
        always=True,
    )
    loss_offset: float = _loss(
        0.0,
        "what d has in common in both frames of a pair",
        "what d of the two frames of a pair have in common: it belongs to x_c",
        source="ours",
        stage="motion",
    )
    loss_ssl: float = _loss(
        0.2,
        "f of the transformed picture",
        "the expression feature of a turned, scaled, shifted picture; with `ssl_centred` less that of the other frame",
        source="paper",
        symbol="L_ssl",
        equation="eq. 7",
        stage="motion",
    )
    loss_identity: float = _loss(
        2.0,
        "x_c of both frames",
        "canonical keypoints of two frames of one person agree",
        source="paper",
        symbol="L_id",
        equation="eq. 8",
        stage="motion",
        always=True,
    )
    loss_landmark: float = _loss(
        0.0,
        "landmarks of output and driving face",
        "145 landmarks of output and driving frame, in grey, gated by the face flag",
        source="paper",
        symbol="L_ldmk",
        equation="eq. 9",
    )
    loss_warp: float = _loss(
        0.0,
        "the photo moved by the keypoints alone",
        "the photo moved by the keypoints' flow alone, L1 and perceptual: keypoints learn before the generator draws",
        source="ours",
        stage="motion",
        keypoints="free",
    )
    loss_repose: float = _loss(
        0.0,
        "L_ldmk again, in poses that no frame shows",
        "L_ldmk in a pose that no frame shows: the driving face's own landmarks, turned, scaled and shifted",
        source="ours",
    )
    loss_rotation: float = _loss(
        0.0,
        "the head's rotation in these poses, as the landmarks show it",
        "the head's rotation, as fitted to the landmarks found in that pose, depth included, against the one asked for",
        source="ours",
    )
    loss_embedding: float = _loss(
        0.0, "an identity network", "cosine of an identity network that `csim` doesn't use", source="ours"
    )
    loss_canonical: float = _loss(
        5.0,
        "x_c and the person's mean shape",
        "pull of anchored canonical keypoints to the person's mean shape over all frames",
        source="ours",
        stage="motion",
        keypoints="anchored",
        always=True,
    )
    loss_keypoint: float = _loss(
        10.0,
        "keypoints and landmarks",
        "pull of anchored keypoints to landmarks, decaying to `loss_keypoint_final`",
        source="ours",
        stage="motion",
        keypoints="anchored",
        always=True,
    )
    loss_keypoint_final: float = 1.0
    """No loss: what the weight of `keypoint` has decayed to at the end."""

    def weights(self, progress: float = 0.0) -> dict[str, float]:
        """The weight of each loss by its name. progress: how much of the schedule is behind, 0 to 1."""
        found: dict[str, float] = {name: vars(self)[loss.key] for name, loss in LOSSES.items()}
        found["keypoint"] = self.loss_keypoint_final + (self.loss_keypoint - self.loss_keypoint_final) * math.exp(-5 * progress)
        return found

    def measured(self, *, anchored: bool, stages: frozenset[Stage]) -> frozenset[str]:
        """The names of the losses that a step measures. anchored: whether the model's keypoints are.

        stages: what there is to compare.
        """
        own = "anchored" if anchored else "free"
        return frozenset(
            name
            for name, loss in LOSSES.items()
            if loss.stage in stages and loss.keypoints in (None, own) and (loss.always or vars(self)[loss.key])
        )


LOSSES = {
    name: Loss(name=name, **row.metadata)
    for row in fields(LossWeights)
    if row.metadata
    for name in [row.name.removeprefix("loss_")]
}
"""Every loss by its name, in the order of the table."""


def markdown() -> str:
    """The table of docs/training.md: one line a loss."""
    lines = ["| key | what it compares | measured | default | source |", "|---|---|---|---|---|"]
    for loss in LOSSES.values():
        what = f"{loss.symbol}: {loss.compares}" if loss.symbol else loss.compares
        source = ", ".join(filter(None, (loss.equation, _SOURCES[loss.source])))
        lines.append(f"| `{loss.key}` | {what} | {loss.when} | {loss.weight:g} | {source} |")
    return "\n".join(lines) + "\n"
