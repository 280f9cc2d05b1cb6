"""The model that composes the networks (Fig. 2a)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor, nn

from ..motion import Composition, Motion, compose, jacobian
from .affine import AffineEstimator, AffineParams, MeshAffineEstimator, MeshAffineParams
from .anchors import COUNT, anchor_log_widths, anchor_points
from .appearance import (
    AppearanceExtractor,
    AppearanceParams,
    LiteAppearanceExtractor,
    LiteAppearanceParams,
    SourceFeatures,
)
from .canonical import CanonicalKeypointDetector, CanonicalParams, MeshCanonicalDetector, MeshCanonicalParams
from .dense_motion import DenseFlow, DenseMotion, DenseMotionParams, LiteDenseMotion, LiteDenseMotionParams
from .expression import (
    ExpressionDecoder,
    ExpressionDecoderParams,
    ExpressionEncoder,
    ExpressionEncoderParams,
    MeshExpressionEncoder,
    MeshExpressionEncoderParams,
)
from .generator import GeneratorParams, LiteGenerator, LiteGeneratorParams, MultiScaleGenerator


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


@dataclass(frozen=True)
class Source:
    """Everything that is computed once per source photo, batch of B."""

    features: SourceFeatures
    canonical: Tensor
    motion: Motion
    keypoints: Tensor

    def expand(self, count: int) -> Source:
        """The one source, repeated as a batch without copying."""

        def grow(tensor: Tensor) -> Tensor:
            return tensor.expand(count, *tensor.shape[1:])

        features = SourceFeatures(
            volume=grow(self.features.volume),
            skips=tuple(grow(skip) for skip in self.features.skips),
            image=grow(self.features.image),
        )
        return Source(features, grow(self.canonical), self.motion.expand(count), grow(self.keypoints))


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
    expression_decoder: ExpressionDecoderParams = field(
        default_factory=lambda: ExpressionDecoderParams(keypoints=COUNT)
    )
    dense_motion: LiteDenseMotionParams = field(default_factory=LiteDenseMotionParams)
    generator: LiteGeneratorParams = field(default_factory=LiteGeneratorParams)


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
    """Whether the motion networks look at the picture, not only at its landmarks."""

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
        """Canonical keypoints x_c (B,K,3)."""
        with _full_precision(face.mesh):
            return self.canonical_detector(face.mesh - self.mean_mesh)

    def motion(self, face: FaceInput) -> Motion:
        """Motion (R, s, t, f) of each face: R of the frozen pose prior, s and t of the affine estimator, f of E_exp."""
        with _full_precision(face.mesh):
            offset = face.mesh - self.mean_mesh
            scale, translation = self.affine(offset, face.scale, face.translation)
            expression = self.expression_encoder(offset)
        return Motion(rotation=face.rotation, scale=scale, translation=translation, expression=expression)

    def keypoints(self, canonical: Tensor, motion: Motion, *, gain: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keypoints in the image and the deformation, both (B,K,3), of canonical keypoints under a motion (eq. 5).

        The deformation is multiplied by the motion's intensity, and each keypoint's by `gain` (K,1) if given.
        """
        with _full_precision(canonical):
            deformation = motion.intensity[:, :, None] * self.expression_decoder(motion.expression, canonical)
            if gain is not None:
                deformation = gain * deformation
            placed = compose(canonical, deformation, motion, mode=self.params.composition)
        return placed, deformation

    def source(self, face: FaceInput) -> Source:
        """All that a source photo needs, once."""
        canonical, motion = self.canonical(face), self.motion(face)
        keypoints, _ = self.keypoints(canonical, motion)
        return Source(self.appearance(face.image), canonical, motion, keypoints)

    def render(self, source: Source, driving: Motion, *, gain: Tensor | None = None) -> Rendering:
        """The source under the driving motion; both of the same batch size. `gain`: see `keypoints`."""
        keypoints, deformation = self.keypoints(source.canonical, driving, gain=gain)
        with _full_precision(keypoints):
            local = jacobian(source.motion, driving, mode=self.params.composition)
        flow = self.dense_motion(
            source.features.volume,
            source=source.keypoints,
            driving=keypoints,
            jacobian=local,
            scale=driving.scale,
        )
        return Rendering(self.generator(source.features, flow), keypoints, deformation, flow)

    def forward(self, source: FaceInput, driving: FaceInput) -> Rendering:
        return self.render(self.source(source), self.motion(driving))


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
        with _full_precision(face.image):
            return self.canonical_detector(face.image)

    def motion(self, face: FaceInput) -> Motion:
        with _full_precision(face.image):
            scale, translation = self.affine(face.image)
            expression = self.expression_encoder(face.image)
        return Motion(rotation=face.rotation, scale=scale, translation=translation, expression=expression)


def build_model(params: LiteParams | PaperParams) -> MMFA:
    """An untrained model of the kind that the params describe."""
    return PaperMMFA(params) if isinstance(params, PaperParams) else MMFA(params)


def _full_precision(tensor: Tensor) -> torch.autocast:
    """Keypoints are positions: three digits of bfloat16 would make them tremble, so autocast stops before them."""
    return torch.autocast(tensor.device.type, enabled=False)


def lite() -> LiteParams:
    """The model that ships: 256 x 256, real time on a CPU."""
    return LiteParams()


def tiny() -> LiteParams:
    """64 x 64, for tests."""
    base = LiteParams()
    return replace(
        base,
        size=64,
        appearance=LiteAppearanceParams(volume_channels=4, depth=4, widths=(4, 8, 8, 16)),
        dense_motion=LiteDenseMotionParams(volume_channels=4, depth=4, widths=(8, 8, 16), fine_width=8),
        generator=LiteGeneratorParams(
            volume_channels=4, depth=4, width=16, stages=(8, 8, 4), skips=(4, 8, 8), blocks=1, hint=8
        ),
    )


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
        dense_motion=DenseMotionParams(
            keypoints=5, volume_channels=4, compressed=2, depth=4, widths=(8, 16), narrowest=4
        ),
        generator=GeneratorParams(volume_channels=4, depth=4, stages=(16, 8, 4)),
    )
