"""The paper's MMFA: free keypoints, and everything but the rotation from pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from ..motion import Composition, Motion
from .affine import AffineEstimator, AffineParams
from .appearance import AppearanceExtractor, AppearanceParams, SourceFeatures
from .canonical import CanonicalKeypointDetector, CanonicalParams
from .dense_motion import DenseMotion, DenseMotionParams
from .expression import ExpressionDecoder, ExpressionDecoderParams, ExpressionEncoder, ExpressionEncoderParams
from .generator import GeneratorParams, MultiScaleGenerator
from .mmfa import MMFA, FaceInput, full_precision


@dataclass(frozen=True)
class PaperParams:
    """Sizes of the paper's pixel-fed model; see `paper` and `tiny_paper`."""

    size: int = 256
    composition: Composition = "mmfa"
    appearance: AppearanceParams = field(default_factory=AppearanceParams)
    canonical: CanonicalParams = field(default_factory=CanonicalParams)
    affine: AffineParams = field(default_factory=AffineParams)
    expression_encoder: ExpressionEncoderParams = field(default_factory=ExpressionEncoderParams)
    expression_decoder: ExpressionDecoderParams = field(default_factory=ExpressionDecoderParams)
    dense_motion: DenseMotionParams = field(default_factory=DenseMotionParams)
    generator: GeneratorParams = field(default_factory=GeneratorParams)


class PaperMMFA(MMFA):
    """The paper's MMFA: keypoints, s, t and f come from the pixels, only the rotation from the frozen pose prior."""

    needs_pixels = True

    def __init__(self, params: PaperParams) -> None:
        nn.Module.__init__(self)  # none of the landmark-fed networks
        self.params = params
        self.appearance = AppearanceExtractor(params.appearance)
        self.canonical_detector = CanonicalKeypointDetector(params.canonical)
        self.affine = AffineEstimator(params.affine)
        self.expression_encoder = ExpressionEncoder(params.expression_encoder)
        self.expression_decoder = ExpressionDecoder(params.expression_decoder)
        self.dense_motion = DenseMotion(params.dense_motion)
        self.generator = MultiScaleGenerator(params.generator)

    def anchor(self, mean_mesh: Tensor) -> None:
        """Nothing to do: these keypoints are free, no landmark anchors them."""

    def canonical(self, face: FaceInput) -> Tensor:
        with full_precision(face.image):
            return self.canonical_detector(face.image)

    def _features(self, image: Tensor, keypoints: Tensor, motion: Motion) -> SourceFeatures:
        return self.appearance(image)

    def motion(self, face: FaceInput) -> Motion:
        with full_precision(face.image):
            scale, translation = self.affine(face.image)
            expression = self.expression_encoder(face.image)
        return Motion(rotation=face.rotation, scale=scale, translation=translation, expression=expression)
