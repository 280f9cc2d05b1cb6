"""The kind `paper`: the paper's networks, fed by pixels, with free keypoints."""

from __future__ import annotations

from dataclasses import replace

from ...nets.affine import AffineParams
from ...nets.appearance import AppearanceParams
from ...nets.canonical import CanonicalParams
from ...nets.dense_motion import DenseMotionParams
from ...nets.expression import ExpressionDecoderParams, ExpressionEncoderParams
from ...nets.generator import GeneratorParams
from ...registry import Kind
from .model import KIND as NAME
from .model import PaperMMFA, PaperParams


def paper() -> PaperParams:
    """The paper's networks at 256 x 256, for comparison: for a GPU."""
    return PaperParams()


def small() -> PaperParams:
    """The paper's networks at 64 x 64 pixels, small enough for a CPU: 12 free keypoints."""
    return PaperParams(
        size=64,
        appearance=AppearanceParams(volume_channels=8, depth=8, widths=(24, 48, 64), blocks=1),
        canonical=CanonicalParams(keypoints=12, depth=8, shrink=1, encoder=(16, 32, 48, 64), decoder=(32, 16), centred=True),
        affine=AffineParams(widths=(64, 128), blocks=(1, 2), heatmap=True),
        expression_encoder=ExpressionEncoderParams(features=32, widths=(96, 160, 224), blocks=(1, 2, 1), grid=2),
        expression_decoder=ExpressionDecoderParams(features=32, keypoints=12, hidden=(128, 128)),
        dense_motion=DenseMotionParams(
            keypoints=12, volume_channels=8, compressed=4, depth=8, widths=(24, 48), narrowest=16, kernel=3, prior=True
        ),
        generator=GeneratorParams(volume_channels=8, depth=8, stages=(64, 48, 24)),
    )


def small_128() -> PaperParams:
    """`small` at 128 x 128 pixels, with the same tensors: its motion networks still look at 64 x 64."""
    base = small()
    return replace(
        base,
        size=128,
        canonical=replace(base.canonical, shrink=2),
        affine=replace(base.affine, shrink=2),
        expression_encoder=replace(base.expression_encoder, shrink=2),
    )


def tiny_paper() -> PaperParams:
    """The paper's networks at 64 x 64, for tests."""
    return PaperParams(
        size=64,
        appearance=AppearanceParams(volume_channels=4, depth=4, widths=(4, 8, 8), blocks=1),
        canonical=CanonicalParams(keypoints=5, depth=4, encoder=(8, 8, 16), decoder=(8, 8, 4)),
        affine=AffineParams(widths=(16, 32), blocks=(1, 1)),
        expression_encoder=ExpressionEncoderParams(features=8, widths=(16, 32), blocks=(1, 1)),
        expression_decoder=ExpressionDecoderParams(features=8, keypoints=5, hidden=(16,)),
        dense_motion=DenseMotionParams(keypoints=5, volume_channels=4, compressed=2, depth=4, widths=(8, 16), narrowest=4),
        generator=GeneratorParams(volume_channels=4, depth=4, stages=(16, 8, 4)),
    )


KIND = Kind(
    name=NAME,
    params=PaperParams,
    build=PaperMMFA,
    sizes={"paper": paper, "small": small, "small-128": small_128, "tiny-paper": tiny_paper},
)
