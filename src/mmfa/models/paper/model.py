"""The paper's MMFA: free keypoints, and everything but the rotation from pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ...motion import Composition, Motion
from ...nets.affine import AffineEstimator, AffineParams
from ...nets.appearance import AppearanceExtractor, AppearanceParams, SourceFeatures
from ...nets.canonical import CanonicalKeypointDetector, CanonicalParams
from ...nets.dense_motion import DenseMotion, DenseMotionParams
from ...nets.expression import ExpressionDecoder, ExpressionDecoderParams, ExpressionEncoder, ExpressionEncoderParams
from ...nets.generator import GeneratorParams, MultiScaleGenerator
from ...portrait import Card, FaceInput
from ..mmfa import MMFA, full_precision

KIND = "paper"


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

    params: PaperParams

    def __init__(self, params: PaperParams) -> None:
        super().__init__(params)
        self.appearance = AppearanceExtractor(params.appearance)
        self.canonical_detector = CanonicalKeypointDetector(params.canonical)
        self.affine = AffineEstimator(params.affine)
        self.expression_encoder = ExpressionEncoder(params.expression_encoder)
        self.expression_decoder = ExpressionDecoder(params.expression_decoder)
        self.dense_motion = DenseMotion(params.dense_motion)
        self.generator = MultiScaleGenerator(params.generator)

    @property
    def card(self) -> Card:
        """What it can do; its keypoints are free, so lips and eyes can't be scaled apart."""
        return Card(kind=KIND, size=self.params.size, abilities=frozenset({"edit", "expressions", "keypoints"}))

    def canonical(self, face: FaceInput) -> Tensor:
        """Canonical keypoints x_c (B,K,3), by the pixels."""
        with full_precision(face.image):
            keypoints: Tensor = self.canonical_detector(face.image)
        return keypoints

    def features(self, image: Tensor, keypoints: Tensor, motion: Motion) -> SourceFeatures:  # noqa: ARG002 - other kinds need them
        """The features of a photo (B,3,S,S); of one layer, so that it doesn't matter where its head is."""
        seen: SourceFeatures = self.appearance(image)
        return seen

    def motion(self, face: FaceInput) -> Motion:
        """Motion (R, s, t, f) of each face: R of the frozen pose prior, s and t of the affine estimator, f of E_exp."""
        with full_precision(face.image):
            scale, translation = self.affine(face.image)
            expression = self.expression_encoder(face.image)
        return Motion(rotation=face.rotation, scale=scale, translation=translation, expression=expression)
