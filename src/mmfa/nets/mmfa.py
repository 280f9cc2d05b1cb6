"""The model that composes the networks (Fig. 2a)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..motion import Composition, Motion, compose, jacobian
from .affine import MeshAffineEstimator, MeshAffineParams
from .anchors import COUNT, anchor_log_widths, anchor_points
from .appearance import LiteAppearanceExtractor, LiteAppearanceParams, SourceFeatures
from .blocks import evaluating
from .canonical import MeshCanonicalDetector, MeshCanonicalParams
from .dense_motion import DenseFlow, LiteDenseMotion, LiteDenseMotionParams
from .expression import (
    ExpressionDecoder,
    ExpressionDecoderParams,
    MeshExpressionEncoder,
    MeshExpressionEncoderParams,
)
from .generator import LiteGenerator, LiteGeneratorParams
from .plate import background_plate

if TYPE_CHECKING:
    from .paper import PaperParams


@dataclass(frozen=True)
class FaceInput:
    """One batch of face crops with what the frozen priors say of them.

    image: (B,3,S,S) in [0,1]. mesh: (B,478,3), pose-normalised landmarks in the template's frame.
    rotation (B,3,3), scale (B,1), translation (B,3): the landmark pose (`mmfa.priors.pose`).
    """

    image: Tensor
    mesh: Tensor
    rotation: Tensor
    scale: Tensor
    translation: Tensor

    def to(self, device: torch.device | str) -> FaceInput:
        return FaceInput(*(getattr(self, field.name).to(device) for field in fields(self)))

    def __getitem__(self, index: slice | Tensor) -> FaceInput:
        """Some faces of the batch."""
        return FaceInput(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def concatenate(faces: Sequence[FaceInput]) -> FaceInput:
        """Faces of one size, one after the other."""
        return FaceInput(*(torch.cat([getattr(face, field.name) for face in faces]) for field in fields(FaceInput)))


@dataclass(frozen=True)
class Reading:
    """Canonical keypoints (B,K,3) and motion of B faces."""

    canonical: Tensor
    motion: Motion

    def __getitem__(self, index: slice) -> Reading:
        """Some of them."""
        return Reading(self.canonical[index], self.motion[index])


@dataclass(frozen=True)
class Source:
    """Everything that is computed once per source photo, batch of B."""

    features: SourceFeatures
    canonical: Tensor
    motion: Motion
    keypoints: Tensor

    def expand(self, count: int) -> Source:
        """The one source, repeated as a batch without copying."""
        return self._each(lambda tensor: tensor.expand(count, *tensor.shape[1:]), self.motion.expand(count))

    def __getitem__(self, index: slice | Tensor) -> Source:
        """Some sources of the batch."""
        return self._each(lambda tensor: tensor[index], self.motion[index])

    def _each(self, change: Callable[[Tensor], Tensor], motion: Motion) -> Source:
        features = SourceFeatures(
            volume=change(self.features.volume),
            skips=tuple(change(skip) for skip in self.features.skips),
            image=change(self.features.image),
            plate=None if self.features.plate is None else change(self.features.plate),
            plate_skips=tuple(change(skip) for skip in self.features.plate_skips),
        )
        return Source(features, change(self.canonical), motion, change(self.keypoints))


@dataclass(frozen=True)
class Moved:
    """Driving keypoints and deformation (B,K,3), and the dense flow to them."""

    keypoints: Tensor
    deformation: Tensor
    flow: DenseFlow


@dataclass(frozen=True)
class Rendering:
    """images: coarsest first, the last is the output (B,3,S,S) in [0,1]. The rest is what the losses need."""

    images: tuple[Tensor, ...]
    keypoints: Tensor
    deformation: Tensor
    flow: DenseFlow


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


class MMFA(nn.Module):
    """MMFA from landmarks: explicit canonical keypoints, ``s R (x_c + d) + t``, d from (f, x_c), a warped 3D volume."""

    params: LiteParams | PaperParams
    mean_mesh: Tensor
    appearance: nn.Module
    canonical_detector: nn.Module
    affine: nn.Module
    expression_encoder: nn.Module
    expression_decoder: nn.Module
    dense_motion: nn.Module
    generator: nn.Module
    needs_pixels = False
    """Whether the motion networks can't do without the picture; else landmarks will do."""

    def __init__(self, params: LiteParams) -> None:
        super().__init__()
        self.params = params
        self.register_buffer("mean_mesh", torch.zeros(params.canonical.mesh_points, 3))
        self.appearance = LiteAppearanceExtractor(params.appearance)
        self.canonical_detector = MeshCanonicalDetector(params.canonical)
        self.affine = MeshAffineEstimator(params.affine)
        self.expression_encoder = MeshExpressionEncoder(params.expression_encoder)
        self.expression_decoder = ExpressionDecoder(params.expression_decoder)
        self.dense_motion = LiteDenseMotion(params.dense_motion)
        self.generator = LiteGenerator(params.generator)

    @torch.no_grad()
    def anchor(self, mean_mesh: Tensor) -> None:
        """Start the canonical keypoints on vertices of the data's mean mesh (478,3)."""
        detector, dense_motion = self.canonical_detector, self.dense_motion
        assert isinstance(detector, MeshCanonicalDetector) and isinstance(dense_motion, LiteDenseMotion)
        self.mean_mesh.copy_(mean_mesh)
        detector.anchors.copy_(anchor_points(mean_mesh))
        dense_motion.log_width.copy_(anchor_log_widths())

    def motion_networks(self) -> list[nn.Module]:
        """The networks between the frozen priors and the keypoints."""
        return [self.canonical_detector, self.affine, self.expression_encoder, self.expression_decoder]

    def canonical(self, face: FaceInput) -> Tensor:
        """Canonical keypoints x_c (B,K,3), by the mesh and, if the faces come with pixels, by what they look like."""
        pixels = face.image if face.image.numel() else None
        pose = {"rotation": face.rotation, "scale": face.scale, "translation": face.translation}
        with full_precision(face.mesh):
            return self.canonical_detector(face.mesh - self.mean_mesh, pixels, **pose)

    def motion(self, face: FaceInput) -> Motion:
        """Motion (R, s, t, f) of each face: R of the frozen pose prior, s and t of the affine estimator, f of E_exp."""
        with full_precision(face.mesh):
            offset = face.mesh - self.mean_mesh
            scale, translation = self.affine(offset, face.scale, face.translation)
            expression = self.expression_encoder(offset)
        return Motion(rotation=face.rotation, scale=scale, translation=translation, expression=expression)

    def keypoints(self, canonical: Tensor, motion: Motion, *, gain: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keypoints in the image and the deformation, both (B,K,3), of canonical keypoints under a motion (eq. 5).

        The deformation is multiplied by the motion's intensity, and each keypoint's by `gain` (K,1) if given.
        """
        with full_precision(canonical):
            deformation = motion.intensity[:, :, None] * self.expression_decoder(motion.expression, canonical)
            if gain is not None:
                deformation = gain * deformation
            placed = compose(canonical, deformation, motion, mode=self.params.composition)
        return placed, deformation

    def read(self, face: FaceInput) -> Reading:
        """What the motion networks see in faces."""
        return Reading(self.canonical(face), self.motion(face))

    def source(self, face: FaceInput, reading: Reading | None = None) -> Source:
        """All that a source photo needs, once. reading: what `read` says of it, if that is known already."""
        reading = reading or self.read(face)
        canonical, motion = reading.canonical, reading.motion
        keypoints, _ = self.keypoints(canonical, motion)
        return Source(self._features(face.image, keypoints, motion), canonical, motion, keypoints)

    def _features(self, image: Tensor, keypoints: Tensor, motion: Motion) -> SourceFeatures:
        """The features of the photo and of its background plate; the dense motion at rest says where the head is."""
        features = self.appearance(image)
        with torch.no_grad(), evaluating(self.dense_motion):
            still = torch.eye(3, device=image.device).expand(len(image), 3, 3)
            flow = self.dense_motion(features.volume, source=keypoints, driving=keypoints, jacobian=still, scale=motion.scale)
            plate = background_plate(image, flow.background)
        return replace(features, plate=plate, plate_skips=self.appearance(plate).skips)

    def move(self, source: Source, driving: Motion, *, gain: Tensor | None = None) -> Moved:
        """Where everything of the source goes under the driving motion; both of the same batch size. `gain`: see `keypoints`."""
        keypoints, deformation = self.keypoints(source.canonical, driving, gain=gain)
        with full_precision(keypoints):
            local = jacobian(source.motion, driving, mode=self.params.composition)
        flow = self.dense_motion(
            source.features.volume,
            source=source.keypoints,
            driving=keypoints,
            jacobian=local,
            scale=driving.scale,
        )
        return Moved(keypoints, deformation, flow)

    def render(self, source: Source, driving: Motion, *, gain: Tensor | None = None) -> Rendering:
        """The source under the driving motion: `move`, drawn."""
        moved = self.move(source, driving, gain=gain)
        return Rendering(self.generator(source.features, moved.flow), moved.keypoints, moved.deformation, moved.flow)

    def forward(self, source: FaceInput, driving: FaceInput) -> Rendering:
        return self.render(self.source(source), self.motion(driving))


def full_precision(tensor: Tensor) -> torch.autocast:
    """Keypoints are positions: three digits of bfloat16 would make them tremble, so autocast stops before them."""
    return torch.autocast(tensor.device.type, enabled=False)
