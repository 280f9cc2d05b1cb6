"""The model that ships: landmarks feed its motion networks, its keypoints are anchored on them, and heads lie over a plate."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...motion import Composition, Motion
from ...nets.affine import MeshAffineEstimator, MeshAffineParams
from ...nets.anchors import COUNT, FINE, LIPS, anchor_log_widths, anchor_points
from ...nets.appearance import LayeredFeatures, LiteAppearanceExtractor, LiteAppearanceParams, SourceFeatures
from ...nets.blocks import evaluating
from ...nets.canonical import MeshCanonicalDetector, MeshCanonicalParams
from ...nets.dense_motion import LiteDenseMotion, LiteDenseMotionParams
from ...nets.expression import ExpressionDecoder, ExpressionDecoderParams, MeshExpressionEncoder, MeshExpressionEncoderParams
from ...nets.generator import LiteGenerator, LiteGeneratorParams
from ...nets.plate import background_plate
from ...portrait import Ability, Card, FaceInput
from ..mmfa import MMFA, full_precision

KIND = "lite"


@dataclass(frozen=True)
class LiteParams:
    """Sizes of a landmark-fed model; see `lite` and `tiny`."""

    size: int = 256
    composition: Composition = "mmfa"
    appearance: LiteAppearanceParams = field(default_factory=LiteAppearanceParams)
    canonical: MeshCanonicalParams = field(default_factory=MeshCanonicalParams)
    affine: MeshAffineParams = field(default_factory=MeshAffineParams)
    expression_encoder: MeshExpressionEncoderParams = field(default_factory=MeshExpressionEncoderParams)
    expression_decoder: ExpressionDecoderParams = field(default_factory=lambda: ExpressionDecoderParams(keypoints=COUNT))
    dense_motion: LiteDenseMotionParams = field(default_factory=LiteDenseMotionParams)
    generator: LiteGeneratorParams = field(default_factory=LiteGeneratorParams)


class LiteMMFA(MMFA):
    """MMFA from landmarks, in two layers: the head over the photo with the head filled in."""

    params: LiteParams
    mean_mesh: Tensor

    def __init__(self, params: LiteParams) -> None:
        super().__init__(params)
        self.register_buffer("mean_mesh", torch.zeros(params.canonical.mesh_points, 3))
        self.appearance = LiteAppearanceExtractor(params.appearance)
        self.canonical_detector = MeshCanonicalDetector(params.canonical)
        self.affine = MeshAffineEstimator(params.affine)
        self.expression_encoder = MeshExpressionEncoder(params.expression_encoder)
        self.expression_decoder = ExpressionDecoder(params.expression_decoder)
        self.dense_motion = LiteDenseMotion(params.dense_motion)
        self.generator = LiteGenerator(params.generator)

    @property
    def card(self) -> Card:
        """What it can do: everything; and it needs no pixels to be driven."""
        abilities: frozenset[Ability] = frozenset({"edit", "expressions", "amplitude", "keypoints", "anchored"})
        return Card(kind=KIND, size=self.params.size, abilities=abilities, needs_pixels=False)

    @torch.no_grad()
    def anchor(self, mean_mesh: Tensor) -> None:
        """Start the canonical keypoints on vertices of the data's mean mesh (478,3)."""
        detector, dense_motion = self.canonical_detector, self.dense_motion
        assert isinstance(detector, MeshCanonicalDetector) and isinstance(dense_motion, LiteDenseMotion)
        self.mean_mesh.copy_(mean_mesh)
        detector.anchors.copy_(anchor_points(mean_mesh))
        dense_motion.log_width.copy_(anchor_log_widths())

    def canonical(self, face: FaceInput) -> Tensor:
        """Canonical keypoints x_c (B,K,3), by the mesh and, if the faces come with pixels, by what they look like."""
        pixels = face.image if face.image.numel() else None
        pose = {"rotation": face.rotation, "scale": face.scale, "translation": face.translation}
        with full_precision(face.mesh):
            keypoints: Tensor = self.canonical_detector(face.mesh - self.mean_mesh, pixels, **pose)
        return keypoints

    def motion(self, face: FaceInput) -> Motion:
        """Motion (R, s, t, f) of each face: R of the frozen pose prior, s and t of the affine estimator, f of E_exp."""
        with full_precision(face.mesh):
            offset = face.mesh - self.mean_mesh
            scale, translation = self.affine(offset, face.scale, face.translation)
            expression = self.expression_encoder(offset)
        return Motion(rotation=face.rotation, scale=scale, translation=translation, expression=expression)

    def features(self, image: Tensor, keypoints: Tensor, motion: Motion) -> LayeredFeatures:
        """The features of the photo and of its background plate; the dense motion at rest says where the head is."""
        seen: SourceFeatures = self.appearance(image)
        with torch.no_grad(), evaluating(self.dense_motion):
            still = torch.eye(3, device=image.device).expand(len(image), 3, 3)
            flow = self.dense_motion(seen.volume, source=keypoints, driving=keypoints, jacobian=still, scale=motion.scale)
            plate = background_plate(image, flow.background)
        behind: SourceFeatures = self.appearance(plate)
        return LayeredFeatures(volume=seen.volume, skips=seen.skips, image=image, plate=plate, plate_skips=behind.skips)

    def gain(self, *, lips: float, eyes: float) -> Tensor | None:
        """Factor of each keypoint (K,1); None if all are 1."""
        if lips == eyes == 1:
            return None
        gain = self.mean_mesh.new_ones(self.params.expression_decoder.keypoints, 1)
        gain[: len(LIPS)] = lips
        gain[len(LIPS) : FINE] = eyes
        return gain

    def fingerprint(self) -> dict[str, Tensor]:
        """The weights of E_exp, and the mean mesh that it subtracts."""
        return super().fingerprint() | {"mean_mesh": self.mean_mesh}
