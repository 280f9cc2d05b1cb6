"""The kind `paper`: the paper's networks, fed by pixels, with free keypoints."""

from __future__ import annotations

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


KIND = Kind(name=NAME, params=PaperParams, build=PaperMMFA, sizes={"paper": paper, "tiny-paper": tiny_paper})
