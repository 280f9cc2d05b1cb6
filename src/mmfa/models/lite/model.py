"""The model that ships: landmarks feed its motion networks, its keypoints are anchored on them, and it draws faces, no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...geometry import image_grid, polygon_distance, warp
from ...motion import Composition, Motion, jacobian
from ...nets.affine import MeshAffineEstimator, MeshAffineParams
from ...nets.anchors import COUNT, FINE, LIPS, OVAL, TWINS, anchor_log_widths, anchor_points
from ...nets.appearance import LiteAppearanceExtractor, LiteAppearanceParams, MirroredFeatures, SourceFeatures
from ...nets.blocks import smooth_step
from ...nets.canonical import MeshCanonicalDetector, MeshCanonicalParams
from ...nets.dense_motion import FaceFlow, LiteDenseMotion, LiteDenseMotionParams, View
from ...nets.expression import ExpressionDecoder, ExpressionDecoderParams, MeshExpressionEncoder, MeshExpressionEncoderParams
from ...nets.generator import LiteGenerator, LiteGeneratorParams
from ...portrait import Ability, Card, FaceInput, Layer
from ..mmfa import MMFA, Moved, Reading, Rendering, Source, full_precision

KIND = "lite"
_CENTRE = (0.0, -0.04, 0.34)  # of the face, and
_REACH = 1.3  # half a side of the square that is drawn of it, in units of the canonical face
_CHANGED = (0.004, 0.03)  # from what is noise to what is a motion, in the same units
_HIDDEN, _SHOWN = (0.1, 0.35), (0.15, 0.45)  # how much more the driving face, and the mirror image, face the viewer
_LIGHT, _BLUR, _LIT = 24, 4, (0.6, 1.6)  # cells of the map of light, cells that are averaged to a side, and what is believed
_DEEP = 0.25  # the middle of the head, from which its skin faces away


@dataclass(frozen=True)
class LiteParams:
    """Sizes of a landmark-fed model; see `lite` and `tiny`.

    size: side of the crop that signals are read in, view: of the square around the face that is drawn, both in pixels.
    """

    size: int = 256
    view: int = 192
    composition: Composition = "mmfa"
    appearance: LiteAppearanceParams = field(default_factory=LiteAppearanceParams)
    canonical: MeshCanonicalParams = field(default_factory=MeshCanonicalParams)
    affine: MeshAffineParams = field(default_factory=MeshAffineParams)
    expression_encoder: MeshExpressionEncoderParams = field(default_factory=MeshExpressionEncoderParams)
    expression_decoder: ExpressionDecoderParams = field(default_factory=lambda: ExpressionDecoderParams(keypoints=COUNT))
    dense_motion: LiteDenseMotionParams = field(default_factory=LiteDenseMotionParams)
    generator: LiteGeneratorParams = field(default_factory=LiteGeneratorParams)


@dataclass(frozen=True)
class FaceSource(Source):
    """A photo in its own `window` (B,3), whose grid the keypoints are in; the motion is in the crop's."""

    window: Tensor

    def _with(self, features: SourceFeatures, change: Callable[[Tensor], Tensor], motion: Motion) -> FaceSource:
        return FaceSource(features, change(self.canonical), motion, change(self.keypoints), change(self.window))


@dataclass(frozen=True)
class FaceMoved(Moved):
    """Besides, the `window` (B,3) that it is drawn in. Keypoints are in the crop's grid."""

    window: Tensor


class LiteMMFA(MMFA):
    """MMFA from landmarks. It draws the face in a window that follows the head, over the photo and its mirror image.

    In its window a face has one place and one size, whatever the driving video shows: what is left are its turn and expression.
    """

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
        return Card(kind=KIND, size=self.params.size, abilities=abilities, needs_pixels=False, view=self.params.view)

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

    def window(self, signal: Motion) -> Tensor:
        """A square (B,3) around the face, wherever it is: in it every face has one place and one size."""
        with full_precision(signal.rotation):
            middle = (signal.rotation @ signal.rotation.new_tensor(_CENTRE))[:, :2]
            return torch.cat([signal.translation[:, :2] + signal.scale * middle, _REACH * signal.scale], 1)

    def features(self, image: Tensor, keypoints: Tensor, motion: Motion) -> MirroredFeatures:
        """The features of a photo, cut at its window, and of its mirror image."""
        both: SourceFeatures = self.appearance(torch.cat([image, image.flip(-1)]))
        seen, mirror = both.mapped(lambda tensor: tensor[: len(image)]), both.mapped(lambda tensor: tensor[len(image) :])
        light = self._light(image, keypoints, motion)
        return MirroredFeatures(volume=seen.volume, skips=seen.skips, image=seen.image, mirror=mirror, light=light)

    @torch.no_grad()
    def _light(self, image: Tensor, keypoints: Tensor, motion: Motion) -> Tensor:
        """By what the colours of the mirror image are to be multiplied to be lit as the photo's face is: (B,3,n,n)."""
        assert isinstance(self.dense_motion, LiteDenseMotion)
        mirror_motion, mirror_keypoints = _mirrored(motion, keypoints)
        with full_precision(keypoints):
            turn = jacobian(mirror_motion, motion, mode=self.params.composition)
            grid = image_grid(_LIGHT, _LIGHT, device=image.device)
            view = View(keypoints=mirror_keypoints, jacobian=turn)
            places = self.dense_motion.rough(grid.flatten(0, 1), view=view, driving=keypoints, scale=motion.scale)
            small = F.interpolate(image.float(), size=(_LIGHT, _LIGHT), mode="area")
            other = warp(small.flip(-1), places.unflatten(1, (_LIGHT, _LIGHT)))
            outline = keypoints[:, list(OVAL), :2]
            face = polygon_distance(grid.flatten(0, 1).expand(len(image), -1, -1), outline).unflatten(1, (_LIGHT, _LIGHT))
            face = (face > 0).to(small)[:, None]
            sums = [F.avg_pool2d(F.pad(face * (part + 0.05), (_BLUR,) * 4), 2 * _BLUR + 1, 1) for part in (small, other)]
            weight = F.avg_pool2d(F.pad(face, (_BLUR,) * 4), 2 * _BLUR + 1, 1)
            ratio = (sums[0] / sums[1].clamp_min(1e-4)).clamp(*_LIT)
            return torch.lerp(torch.ones_like(ratio), ratio, (8 * weight).clamp_max(1))

    def prepare(self, face: FaceInput, view: Tensor | None = None, *, reading: Reading | None = None) -> FaceSource:
        """All that a source photo needs, once; without a view it is cut out of the crop."""
        reading = reading or self.read(face)
        window = self.window(reading.motion)
        side = self.params.view
        if view is None or view.shape[-1] != side:
            view = cut(face.image, window, side) if view is None else cut(view, view.new_tensor([[0.0, 0.0, 1.0]]), side)
        motion = _framed(reading.motion, window)
        keypoints, _ = self.keypoints(reading.canonical, motion)
        return FaceSource(self.features(view, keypoints, motion), reading.canonical, reading.motion, keypoints, window)

    def move(self, source: Source, signal: Motion, *, gain: Tensor | None = None) -> FaceMoved:
        """Where everything of the photo, and of its mirror image, goes under the driving motion, in the window of that."""
        assert isinstance(source, FaceSource)
        window = self.window(signal)
        motion = _framed(signal, window)
        keypoints, deformation = self.keypoints(source.canonical, motion, gain=gain)
        own = _framed(source.motion, source.window)
        mirror_motion, mirror_keypoints = _mirrored(own, source.keypoints)
        mode = self.params.composition
        with full_precision(keypoints):
            photo = View(keypoints=source.keypoints, jacobian=jacobian(own, motion, mode=mode))
            mirror = View(keypoints=mirror_keypoints, jacobian=jacobian(mirror_motion, motion, mode=mode))
            changed, hidden = _novelty(source, own, keypoints, motion)
        flow = self.dense_motion(
            source.features.volume,
            photo=photo,
            mirror=mirror,
            driving=keypoints,
            scale=motion.scale,
            changed=changed,
            hidden=hidden,
        )
        placed = keypoints * window[:, None, 2:] + F.pad(window[:, None, :2], (0, 1))
        return FaceMoved(placed, deformation, flow, window)

    def render(self, prepared: Source, signal: Motion, *, gain: Tensor | None = None) -> Rendering:
        """The face under the driving motion, in its window, and the `Layer` that says how the rest of the photo moves."""
        source = prepared if len(prepared.canonical) == len(signal) else prepared.expand(len(signal))
        assert isinstance(source, FaceSource)
        moved = self.move(source, signal, gain=gain)
        flow = moved.flow
        assert isinstance(flow, FaceFlow)
        drawn = self.generator(source.features, flow)
        with full_precision(signal.scale):
            turn = jacobian(source.motion, signal, mode=self.params.composition)[:, :2, :2]
        layer = Layer(
            window=moved.window,
            source=source.window,
            flow=flow.image,
            jacobian=turn,
            outline=moved.keypoints[:, list(OVAL), :2],
            unit=signal.scale,
            follow=flow.follow,
            paint=drawn.paint,
            share=drawn.share,
            tint=drawn.tint,
            mirror=flow.mirror,
            mirrored=flow.mirrored,
            light=drawn.light,
        )
        return Rendering(
            patch=drawn.images[-1],
            layer=layer,
            images=drawn.images,
            keypoints=moved.keypoints,
            deformation=moved.deformation,
            flow=flow,
        )

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


def cut(image: Tensor, window: Tensor, size: int) -> Tensor:
    """The squares (B,3,size,size) of pictures (B,3,S,S) at windows (B,3); the border is repeated.

    Large pictures are smoothed first.
    """
    factor = image.shape[-1] // (2 * size)
    if factor > 1:
        image = F.avg_pool2d(image, factor)
    places = window[:, None, None, :2] + window[:, 2, None, None, None] * image_grid(size, size, device=image.device)
    return warp(image, places)


def _mirrored(motion: Motion, keypoints: Tensor) -> tuple[Motion, Tensor]:
    """Motion and keypoints of a picture's mirror image."""
    flip = keypoints.new_tensor([-1.0, 1.0, 1.0])
    turned = replace(motion, rotation=motion.rotation * flip[:, None] * flip, translation=motion.translation * flip)
    return turned, keypoints[:, list(TWINS)] * flip


def _framed(signal: Motion, window: Tensor) -> Motion:
    """A motion in the grid of its window (B,3)."""
    shift = signal.translation - F.pad(window[:, :2], (0, 1))
    return replace(signal, scale=signal.scale / window[:, 2:], translation=shift / window[:, 2:])


def _novelty(source: FaceSource, own: Motion, driving: Tensor, motion: Motion) -> tuple[Tensor, Tensor]:
    """`LiteDenseMotion.forward`'s ``changed`` and ``hidden`` (B,K) of driving keypoints (B,K,3). Motions in their windows."""
    before = (source.keypoints - own.translation[:, None]) / own.scale[..., None]
    after = (driving - motion.translation[:, None]) / motion.scale[..., None]
    changed = smooth_step((after - before).norm(dim=2), *_CHANGED)
    # A canonical keypoint's skin faces away from the middle of the head; of its height little is known, and little counts.
    away = source.canonical * driving.new_tensor([1.0, 0.3, 1.0]) - driving.new_tensor([0.0, 0.0, _DEEP])
    away = F.normalize(away, dim=2)
    seen, wanted = (-(away @ turn[:, 2, :, None])[..., 0] for turn in (source.motion.rotation, motion.rotation))
    hidden = smooth_step(wanted - seen, *_HIDDEN) * smooth_step(seen[:, list(TWINS)] - seen, *_SHOWN)
    return changed, hidden
