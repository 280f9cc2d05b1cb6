"""What a batch is worth: one pass of the model and every loss that the config switches on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import Bend, euler_to_matrix, invert_affine, resize_grid, transform_image, transform_points, warp
from ..models.lite.model import cut
from ..models.mmfa import MMFA, Reading
from ..motion import Motion
from ..nets.anchors import VERTICES
from ..nets.blocks import resize, smooth_step
from ..nets.dense_motion import FaceFlow, PaperFlow
from ..portrait import FaceInput
from ..priors.face_features import FaceFeatures
from ..priors.landmarks import FaceLandmarker, Landmarks, roi_from_landmarks, to_pixels
from ..priors.matte import INPUT_SIZE, PersonMatte
from ..priors.perceptual import backbone
from . import losses
from .config import TrainConfig
from .data import Batch, face_of
from .layout import channels_last
from .loss_table import STAGES, Stage
from .scene import Scene, in_window

_AROUND = 128  # pixels to a side at which what is around the face is compared
Network = TypeVar("Network", bound=nn.Module)
Readings = tuple[Reading, Reading, Reading | None, Reading | None]
"""Of source and driving faces, and of the driving faces transformed for L_ssl and for L_E, where these are asked for."""


@dataclass(frozen=True)
class Outcome:
    """Losses by name, unweighted scalars; the windows (B,3,w,w) of output and target that the discriminator compares."""

    losses: dict[str, Tensor]
    fake: Tensor
    real: Tensor


@dataclass(frozen=True)
class LossNetworks:
    """Frozen networks that losses ask. Not a module: they are no part of what is trained, synchronised or saved."""

    landmarker: FaceLandmarker
    perceptual: Callable[[Tensor], Sequence[Tensor]] | None
    face: Callable[[Tensor], Sequence[Tensor]] | None
    identity: FaceFeatures | None
    matte: PersonMatte | None

    @staticmethod
    def of(config: TrainConfig, device: torch.device, *, windowed: bool) -> LossNetworks:
        """Those that the losses of a config need, on a device. Raises ModelError where the weights of one aren't here.

        windowed: for a model that draws in a window.
        """

        def frozen(net: Network) -> Network:
            net = net.eval().requires_grad_(False).to(device)
            if device.type == "cuda":
                channels_last(net)
            return net

        return LossNetworks(
            landmarker=frozen(FaceLandmarker()),
            perceptual=frozen(backbone(config.perceptual)) if config.loss_perceptual else None,
            face=frozen(backbone(config.face)) if config.loss_face else None,
            identity=frozen(FaceFeatures()) if config.loss_embedding else None,
            matte=frozen(PersonMatte()) if windowed else None,
        )


class Objective(nn.Module):
    """The model and its losses in one forward, so that a data-parallel wrapper sees everything that is trained."""

    def __init__(self, model: MMFA, config: TrainConfig, *, device: torch.device) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.networks = LossNetworks.of(config, device, windowed=bool(model.card.view))
        self.keypoint_weights = losses.anchor_weights(device)

    def forward(self, batch: Batch, discriminator: nn.Module | None = None, *, draw: bool = True) -> Outcome:
        """All losses of a batch; those of the GAN only with a discriminator, which takes no gradient here.

        Without `draw` only those that need no generated image.
        """
        config, target, count = self.config, batch.driving.image, len(batch)
        measured = self._measured(*STAGES) if discriminator is not None else self._measured("motion", "picture")
        readings = self._readings(batch)
        source, motion = self.model.prepare(batch.source, reading=readings[0]), readings[1].motion
        if not draw:
            moved = self.model.move(source, motion)
            values = self.motion_losses(batch, (moved.keypoints, moved.deformation), readings=readings)
            if "warp" in measured and isinstance(moved.flow, PaperFlow):
                values["warp"] = self._warped(batch, moved.flow.photo)
            return Outcome(values, target, target)
        turned = not measured.isdisjoint({"repose", "rotation"})
        if turned:
            posed, wanted = self._posed(batch, motion)
            again = torch.arange(count + len(posed), device=target.device) % count
            source, motion = source[again], Motion.concatenate([motion, posed])
        rendering = self.model.render(source, motion)
        images = tuple(image[:count] for image in rendering.images)
        output, landmarks, near = rendering.patch, batch.landmarks, wanted if turned else batch.landmarks
        layer, flow = rendering.layer, rendering.flow
        if layer is not None:  # what it draws lies over the person and the backdrop, in a window
            scene = self._scene(batch, count=len(output))
            drawn = scene.composed(rendering, rendering.images)
            output, images = drawn[-1], tuple(image[:count] for image in drawn)
            target = cut(target, layer.window[:count].detach(), output.shape[-1])
            landmarks = in_window(landmarks, layer.window[:count])
            near = in_window(near, layer.window[count:]) if turned else near
        shown = without_inside(output, flow.openings if isinstance(flow, FaceFlow) else None)
        output = output[:count]
        placed = rendering.keypoints[:count], rendering.deformation[:count]
        values = self.motion_losses(batch, placed, readings=readings)
        fake, real = window(output, batch.corner, config.window), window(target, batch.corner, config.window)
        if "pixel" in measured:
            values["pixel"] = losses.pixel_loss(images, target)
        if layer is not None and "share" in measured:
            assert isinstance(flow, FaceFlow)
            values["share"] = losses.share_loss(layer.share[:count], flow.openings[:count])
        if layer is not None and ("around" in measured or "matte" in measured):
            around, cover, face = (part[:count] for part in scene.around(rendering, _AROUND))
            facts = (batch.driving.image, self._matte(batch.driving.image) if "matte" in measured else face)
            whole, matte = (F.interpolate(part, size=(_AROUND, _AROUND), mode="area").detach() for part in facts)
            if "around" in measured:
                values["around"] = ((around - whole).abs() * (1 - face)).mean()
            if "matte" in measured:
                values["matte"] = ((cover - matte).abs() * (1 - face)).mean()
        if "warp" in measured and isinstance(rendering.flow, PaperFlow):
            values["warp"] = self._warped(batch, rendering.flow.photo[:count])
        if "detail" in measured:
            values["detail"] = losses.detail_loss(output, target, landmarks)
        if "perceptual" in measured:
            values["perceptual"] = self._perceptual(images, target, fake, real)
        if "face" in measured:
            assert self.networks.face is not None
            values["face"] = losses.perceptual_loss(output, target, self.networks.face)
        if "landmark" in measured:
            with torch.no_grad(), _exact(target):
                seen = self._detect(grey(target), landmarks).points
            values["landmark"] = self._landmark(self._find(shown[:count], near=landmarks), seen)
        if turned:
            found = self._find(shown[count:], near=near)
            if "repose" in measured:
                values["repose"] = self._landmark(found, near)
            if "rotation" in measured:
                values["rotation"] = losses.rotation_loss(found.points, posed.rotation, found.score)
        if "embedding" in measured:
            assert self.networks.identity is not None
            values["embedding"] = self._embedding(output, target, landmarks, self.networks.identity)
        if discriminator is not None:
            found_fake = discriminator(fake)
            with torch.no_grad():
                found_real = discriminator(real)
            relative = config.gan == "relative"
            gan = losses.relative_generator_loss(found_real, found_fake) if relative else losses.generator_loss(found_fake)
            values["gan"], values["matching"] = gan, losses.feature_matching_loss(found_real, found_fake)
        return Outcome(values, fake.detach(), real)

    def motion_losses(
        self, batch: Batch, placed: tuple[Tensor, Tensor] | None = None, *, readings: Readings | None = None
    ) -> dict[str, Tensor]:
        """The losses on keypoints and motion, which need no generated image.

        placed: driving keypoints and deformation, readings: of `_readings`, where they are known already.
        """
        model, config = self.model, self.config
        measured = self._measured("motion")
        source, driving, similar, bent = readings or self._readings(batch)
        placed_driving, deformation = placed or model.keypoints(source.canonical, driving.motion)
        values = {
            "identity": losses.identity_loss(source.canonical, driving.canonical),
            "deformation": losses.deformation_loss(deformation),
        }
        if "offset" in measured:
            _, still = model.keypoints(source.canonical, source.motion)
            values["offset"] = losses.deformation_loss((deformation + still) / 2)
        if "keypoint" in measured:
            placed_source, _ = model.keypoints(source.canonical, source.motion)
            values["keypoint"] = losses.keypoint_loss(placed_source, batch.source_points, self.keypoint_weights)
            values["keypoint"] += losses.keypoint_loss(placed_driving, batch.driving_points, self.keypoint_weights)
        if "canonical" in measured:
            # One picture doesn't say what a face is like without its expression: no pull where a person has no clip.
            shape = batch.canonical_points
            shape = torch.where(batch.known[:, None, None], shape, source.canonical.detach()[:, : len(VERTICES)])
            values["canonical"] = losses.keypoint_loss(source.canonical, shape, self.keypoint_weights)
        if "prior" in measured:
            values["prior"] = losses.keypoint_prior_loss(placed_driving, depth=config.prior_depth)
        if similar is not None and "ssl" in measured:
            centre = source.motion.expression if config.ssl_centred else None
            values["ssl"] = losses.ssl_loss(driving.motion.expression, similar.motion.expression, centre)
        if bent is not None:
            backs = [(bent, self._bend(batch).back)]
            if similar is not None and config.equivariance_similar:
                backs.append((similar, partial(transform_points, transform=invert_affine(batch.transform))))
            parts = []
            for other, back in backs:
                moved, _ = model.keypoints(other.canonical, other.motion)
                parts.append(losses.equivariance_loss(placed_driving, moved, back))
            values["equivariance"] = torch.stack(parts).mean()
        return values

    def _measured(self, *stages: Stage) -> frozenset[str]:
        """The losses of these stages that are measured, by name."""
        return self.config.measured(anchored=self.model.card.supports("anchored"), stages=frozenset(stages))

    def _readings(self, batch: Batch) -> Readings:
        """What the motion networks see in source, driving, and the driving face turned, scaled and shifted (eq. 7) and bent
        (eq. 15), where a loss asks for these. One pass: batch norms see all of it.
        """
        config, count = self.config, len(batch)
        measured = self._measured("motion")
        equivariant = "equivariance" in measured
        wanted = ["ssl" in measured or (equivariant and config.equivariance_similar), equivariant]
        with torch.no_grad(), _exact(batch.landmarks):
            more = self._transformed(batch, similar=wanted[0], bent=wanted[1])
        if not self.model.card.needs_pixels:
            seen = [self.model.read(face) for face in (batch.source, batch.driving, *more)]
        else:
            together = self.model.read(FaceInput.concatenate([batch.source, batch.driving, *more]))
            seen = [together[start : start + count] for start in range(0, len(together.canonical), count)]
        rest = iter(seen[2:])
        similar, bent = (next(rest) if asked else None for asked in wanted)
        return seen[0], seen[1], similar, bent

    def _bend(self, batch: Batch) -> Bend:
        return Bend.of(batch.bend, affine=self.config.equivariance_affine, spline=self.config.equivariance_spline)

    def _transformed(self, batch: Batch, *, similar: bool, bent: bool) -> list[FaceInput]:
        """I_d', the driving image turned, scaled and shifted, or bent, with landmarks detected anew.

        A model that goes by pixels takes nothing but the rotation from landmarks: for it the driving image's own are moved.
        """
        config, images, points = self.config, [], []
        if similar:
            images.append(transform_image(batch.driving.image, batch.transform))
            points.append(transform_points(batch.landmarks, batch.transform))
        if bent:
            images.append(self._bend(batch).image(batch.driving.image))
            points.append(self._bend(batch).points(batch.landmarks))
        if config.transform_jitter:
            factor = 1 + 0.5 * config.transform_jitter * batch.tint[:, :3, None, None]
            offset = 0.25 * config.transform_jitter * batch.tint[:, 3:, None, None]
            images = [(image * factor + offset).clamp(0, 1) for image in images]
        if not self.model.card.needs_pixels:
            points = [self._detect(image, near).points for image, near in zip(images, points, strict=True)]
        return [face_of(image, near) for image, near in zip(images, points, strict=True)]

    def _warped(self, batch: Batch, flow: Tensor) -> Tensor:
        """How far the photo, moved by the keypoints' flow (B,h,w,2) alone, is from the driving picture, coarse to fine.

        Not the paper's. Keypoints learn from it before the generator can draw.
        """
        target = batch.driving.image
        moved = warp(batch.source.image, resize_grid(flow, *target.shape[-2:]))
        pyramid = [moved, F.avg_pool2d(moved, 2), F.avg_pool2d(moved, 4)]
        value = losses.pixel_loss(pyramid, target)
        if self.networks.perceptual is not None:
            value = value + losses.perceptual_loss(moved, target, self.networks.perceptual)
        return value

    def _detect(self, image: Tensor, near: Tensor) -> Landmarks:
        """Landmarks of an image, in the region that the landmarks `near` (B,478,3) span."""
        roi = roi_from_landmarks(to_pixels(near, *image.shape[-2:]))
        found: Landmarks = self.networks.landmarker(image, roi)
        return found

    def _perceptual(self, images: Sequence[Tensor], target: Tensor, fake: Tensor, real: Tensor) -> Tensor:
        """With `pyramid` the paper's L_P; else the picture at half size and a window at full size: a third of the cost."""
        assert self.networks.perceptual is not None
        if self.config.pyramid:
            return losses.multi_scale_perceptual_loss(images, target, self.networks.perceptual)
        pool = nn.functional.avg_pool2d
        whole = losses.perceptual_loss(pool(images[-1], 2), pool(target, 2), self.networks.perceptual)
        return (whole + losses.perceptual_loss(fake, real, self.networks.perceptual)) / 2

    def _find(self, output: Tensor, *, near: Tensor) -> Landmarks:
        """Landmarks of the output, looked for in the region that the landmarks `near` span.

        In grey: the landmark network reads a mouth as open most readily when its inside is green, and a generator learns that.
        """
        with _exact(output):
            return self._detect(grey(output.float()), near)

    def _landmark(self, found: Landmarks, wanted: Tensor) -> Tensor:
        """L_ldmk (eq. 9) against the landmarks `wanted`, with the config's weights."""
        weights = (self.config.landmark_lips, self.config.landmark_eyes, self.config.landmark_rest)
        return losses.landmark_loss(found.points, wanted, found.score, weights=weights)

    def _posed(self, batch: Batch, motion: Motion) -> tuple[Motion, Tensor]:
        """Some of the driving motions in poses that no frame shows, and the landmarks (n,478,3) to be found then.

        The landmarks are the driving face's own, pose-normalised, in the new pose. Not the paper's.
        """
        config = self.config
        part = slice(math.ceil(config.repose_share * len(batch)))
        driving, motion, turn = batch.driving[part], motion[part], batch.turn[part]
        with _exact(turn):
            ranges = turn.new_tensor([config.repose_pitch, config.repose_yaw, config.repose_roll])
            rotation = euler_to_matrix(*(turn[:, :3] * ranges).unbind(1))
            zoom = (turn[:, 3:4] * config.transform_scale).exp()
            shift = F.pad(turn[:, 4:] * config.transform_shift, (0, 1))
            placed = driving.mesh @ rotation.transpose(1, 2) * (driving.scale * zoom)[:, :, None]
        posed = replace(motion, rotation=rotation, scale=motion.scale * zoom, translation=motion.translation + shift)
        return posed, placed + (driving.translation + shift)[:, None]

    def _scene(self, batch: Batch, *, count: int) -> Scene:
        """The source photos apart, repeated to `count`."""
        with torch.no_grad():
            image = batch.source.image
            again = torch.arange(count, device=image.device) % len(image)
            scene = Scene.of(image, self._matte(image))
            return Scene(scene.person[again], scene.backdrop[again])

    def _matte(self, image: Tensor) -> Tensor:
        assert self.networks.matte is not None
        seen = self.networks.matte(resize(image, (INPUT_SIZE, INPUT_SIZE)))[:, None].float()
        return resize(smooth_step(seen, 0.1, 0.9), (image.shape[-2], image.shape[-1]))

    def _embedding(self, output: Tensor, target: Tensor, landmarks: Tensor, identity: FaceFeatures) -> Tensor:
        with _exact(output):
            generated = identity.embed(output.float(), landmarks)
            with torch.no_grad():
                wanted = identity.embed(target, landmarks)
            return losses.embedding_loss(generated, wanted)


def window(image: Tensor, corner: Tensor, fraction: float) -> Tensor:
    """A square window (B,C,w,w), w = fraction * S, of each image (B,C,S,S) at its corner (B,2) in [0,1]; more often central."""
    side = round(image.shape[-1] * fraction)
    if side >= image.shape[-1]:
        return image
    room = image.shape[-1] - side
    places = (room * (0.1 + 0.8 * corner)).round().long().tolist()
    return torch.stack([item[:, y : y + side, x : x + side] for item, (y, x) in zip(image, places, strict=True)])


def without_inside(image: Tensor, openings: Tensor | None) -> Tensor:
    """Images (B,3,S,S) that take no gradient inside the open mouth of `FaceFlow.openings`, but for a rim of S/100.

    What a mouth looks like inside is not for a landmark network to say: where its lips are, their rims tell.
    """
    if openings is None:
        return image
    inside = resize(openings[:, :1], (image.shape[-2], image.shape[-1])) > 0.02
    return torch.where(inside, image.detach(), image)


def grey(image: Tensor) -> Tensor:
    """The luma of images (B,3,H,W), as three equal channels."""
    weights = image.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    return (image * weights).sum(1, keepdim=True).expand_as(image)


def _exact(tensor: Tensor) -> torch.autocast:
    """Positions need more digits than bfloat16 has."""
    return torch.autocast(tensor.device.type, enabled=False)
