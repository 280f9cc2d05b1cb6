"""Losses: pure functions, one each. Equation numbers are the paper's.

All return a scalar that is never negative and is computed in float32, also where autocast is on around the call; only
the networks handed to a perceptual loss run in autocast's precision. Positions are in grid coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nets.anchors import FINE, VERTICES
from ..nets.discriminator import Judgement
from ..priors.groups import LOSS_GROUPS
from ..priors.pose import head_pose

Backbone = Callable[[Tensor], Sequence[Tensor]]
"""Images (B,3,H,W) in [0,1] -> feature maps; see `mmfa.priors.perceptual.backbone`."""

_DETAIL_POINTS = (13, 14, 61, 291, 78, 308, 159, 145, 386, 374, 468, 473)
_SMALLEST_OCTAVE = 16  # pixels: what VGG's four poolings need


def pixel_loss(images: Sequence[Tensor], target: Tensor) -> Tensor:
    """Sum over output resolutions of the mean absolute difference to the target (B,3,S,S), area-reduced."""
    return torch.stack([(image.float() - _reduce(target.float(), image.shape[-2:])).abs().mean() for image in images]).sum()


def share_loss(share: Tensor, openings: Tensor) -> Tensor:
    """What it costs to paint over the photo: the mean share (B,1,S,S) outside open mouths and eyes.

    Paint has no texture of the photo's resolution; where the photo, moved and tinted, does as well, it is to stay. openings
    (B,4,h,w): `FaceFlow.openings`.
    """
    shut = F.interpolate((openings[:, :2].amax(1, keepdim=True) < 0).to(share), size=share.shape[-2:], mode="nearest")
    return (share.float() * shut).mean()


def detail_loss(image: Tensor, target: Tensor, points: Tensor, *, variance: float = 0.005) -> Tensor:
    """Mean absolute difference weighted by Gaussians around mouth and eyes of the target's landmarks (B,478,>=2)."""
    axis = torch.linspace(-1, 1, image.shape[-1], device=image.device)
    centres = points[:, list(_DETAIL_POINTS)].float()
    x = torch.exp(-((axis - centres[..., :1]) ** 2) / (2 * variance))
    y = torch.exp(-((axis - centres[..., 1:2]) ** 2) / (2 * variance))
    weight = torch.zeros(len(image), image.shape[-2], image.shape[-1], device=image.device)
    for k in range(centres.shape[1]):
        weight = torch.maximum(weight, y[:, k, :, None] * x[:, k, None, :])
    return ((image.float() - target.float()).abs() * weight[:, None]).mean()


def perceptual_loss(image: Tensor, target: Tensor, backbone: Backbone) -> Tensor:
    """Mean absolute difference of feature maps, each tap normalised by the target's mean magnitude (eq. 6, one resolution).

    image and target (B,3,S,S) in [0,1]; no gradient to the target. Sum over taps. The normalisation makes one weight
    fit every backbone: VGG's raw taps run to the hundreds.
    """
    return multi_scale_perceptual_loss([image], target, backbone, octaves=0)


def multi_scale_perceptual_loss(images: Sequence[Tensor], target: Tensor, backbone: Backbone, *, octaves: int = 3) -> Tensor:
    """L_P (eq. 6 and 14): the perceptual distance at every output resolution and down an image pyramid.

    Args: images: the generator's outputs (B,3,s,s), coarse to fine, in [0,1]. target (B,3,S,S) in [0,1], without
    gradient, area-reduced to each size. octaves: how often the finest output is halved for the pyramid below it, in
    addition to its own size (halvings below 16 pixels are left out).

    Returns the sum over outputs, octaves and taps of mean absolute differences, each tap over its target's mean
    magnitude, picture by picture, so that a batch's loss is the mean of its parts'. Pictures of one size share a pass.
    """
    height, width = images[-1].shape[-2:]
    views = list(images)
    for octave in range(1, octaves + 1):
        size = torch.Size((height >> octave, width >> octave))
        if min(size) >= _SMALLEST_OCTAVE:
            views.append(_reduce(images[-1], size))
    levels: dict[torch.Size, list[Tensor]] = {}
    for view in views:
        levels.setdefault(view.shape[-2:], []).append(view)
    return torch.stack([_tap_distance(group, _reduce(target, size), backbone) for size, group in levels.items()]).sum()


def generator_loss(fake: Judgement) -> Tensor:
    """L_G, least-squares GAN, the generator's side (eq. 14): mean of (logit - 1)^2 over the patches of generated images."""
    return (fake.logits.float() - 1).square().mean()


def discriminator_loss(real: Judgement, fake: Judgement) -> Tensor:
    """L_G, least-squares GAN, the discriminator's side: real patches to 1, generated ones to 0.

    `fake` must come from a detached image, or the gradient reaches the generator with the wrong sign.
    """
    return (real.logits.float() - 1).square().mean() + fake.logits.float().square().mean()


def relative_generator_loss(real: Judgement, fake: Judgement) -> Tensor:
    """Least-squares GAN on paired patches, the generator's side: a generated patch scores 1 above the real one in its place.

    Not the paper's: with pairs, a discriminator need not know how sharp a video is to see that its copy is less so.
    No gradient to `real`.
    """
    return (fake.logits.float() - real.logits.detach().float() - 1).square().mean()


def relative_discriminator_loss(real: Judgement, fake: Judgement) -> Tensor:
    """The discriminator's side of `relative_generator_loss`: the real patch scores 1 above the generated one."""
    return (real.logits.float() - fake.logits.float() - 1).square().mean()


def feature_matching_loss(real: Judgement, fake: Judgement) -> Tensor:
    """Feature matching beside L_G (appendix A.2): sum over the discriminator's stages of the mean absolute difference of its
    feature maps (B,c_i,h_i,w_i). No gradient to `real`.
    """
    pairs = zip(real.features, fake.features, strict=True)
    return torch.stack([(a.detach().float() - b.float()).abs().mean() for a, b in pairs]).sum()


def keypoint_loss(keypoints: Tensor, landmarks: Tensor, weights: Tensor, *, depth: float = 0.3) -> Tensor:
    """Anchoring: weighted L1 of the first M keypoints (B,K>=M,3) to landmarks (B,M,3); weights (M,)."""
    difference = (keypoints[:, : landmarks.shape[1]].float() - landmarks).abs()
    return (difference * difference.new_tensor([1.0, 1.0, depth]) * weights[:, None]).mean()


def anchor_weights(device: torch.device | str = "cpu") -> Tensor:
    """Weights (M,) of `keypoint_loss` for the anchored keypoints: 3 on lips, lids and irises, 1 elsewhere."""
    weights = torch.ones(len(VERTICES), device=device)
    weights[:FINE] = 3.0
    return weights


def equivariance_loss(keypoints: Tensor, transformed: Tensor, back: Callable[[Tensor], Tensor]) -> Tensor:
    """L_E (eq. 15): mean of |x_d - T^-1(x_d')| over points and the two axes of the projection.

    Args: keypoints x_d (B,K,3) of an image. transformed x_d' (B,K,3), of the same image under T, with canonical
    keypoints estimated anew from it. back: T^-1 of points (B,K,2).
    """
    return (keypoints[..., :2].float() - back(transformed[..., :2].float())).abs().mean()


def keypoint_prior_loss(keypoints: Tensor, *, distance: float = 0.1, depth: float | None = 0.33) -> Tensor:
    """L_L (eq. 14, from Face-vid2vid): keypoints (B,K,3) spread out, and their mean z is `depth`.

    The hinge is Face-vid2vid's: the sum over ordered pairs i != j of max(0, distance - |x_i - x_j|^2), mean over the
    batch. `distance` is compared with the *squared* distance: 0.1 acts on points nearer than 0.32 grid units, and the
    gradient is finite where two points meet. Being a sum it grows with K^2: the usual weight is for 20 keypoints.

    The depth term is the mean over the batch of |mean z - depth|. 0.33 is Face-vid2vid's, whose z is not tied to a
    centre. In a composition ``s R (x_c + d) + t`` with centred canonical keypoints a mean depth other than 0 moves the
    centre of rotation: use 0 there, or None to switch the term off.
    """
    points = keypoints.float()
    squared = (points[:, :, None] - points[:, None]).square().sum(-1)
    others = ~torch.eye(points.shape[1], dtype=torch.bool, device=points.device)
    loss = ((distance - squared).clamp(min=0) * others).sum((1, 2)).mean()
    if depth is not None:
        loss = loss + (points[..., 2].mean(1) - depth).abs().mean()
    return loss


def landmark_loss(
    points: Tensor,
    wanted: Tensor,
    score: Tensor,
    *,
    weights: tuple[float, float, float] = (3.0, 3.0, 1.0),
    threshold: float = 0.5,
) -> Tensor:
    """L_ldmk (eq. 9): weighted L1 distance of 145 landmarks of the generated and the driving image.

    Args: points (B,478,>=2) of the generated image, by a landmark network differentiable in its pixels. wanted
    (B,478,>=2) of the driving image. score (B,): face flag of the *generated* image in [0,1]. weights: of lips, eyes
    with pupils, and the rest (`groups.LOSS_GROUPS`). threshold: images that score less add nothing.

    Returns the sum over the groups of weight times mean absolute difference over points and x, y; mean over the whole
    batch, gated images counting as zero, so that one image's gradient does not depend on the others. No gradient to
    `wanted` and `score`: a generator must not be paid for looking less like a face.
    """
    difference = (points[..., :2].float() - wanted.detach()[..., :2].float()).abs()
    parts = [w * difference[:, list(group)].mean((1, 2)) for w, group in zip(weights, LOSS_GROUPS, strict=True)]
    each = torch.stack(parts).sum(0)
    return torch.where(score.detach() >= threshold, each, torch.zeros_like(each)).mean()


def rotation_loss(points: Tensor, wanted: Tensor, score: Tensor, *, threshold: float = 0.5) -> Tensor:
    """The head pose of landmarks (B,478,3) of the generated image against rotations (B,3,3): chordal distance over sqrt 2.

    Not the paper's. Radians, for small angles. All three coordinates count: what turns a face most for a landmark network is
    how deep it takes its points to be. `score` (B,): gate as in `landmark_loss`, and no gradient to it or to `wanted`.
    """
    with torch.autocast(points.device.type, enabled=False):
        difference = head_pose(points.float()).rotation - wanted.detach().float()
        each = (difference.square().sum((1, 2)) / 2 + 1e-14).sqrt()
    return torch.where(score.detach() >= threshold, each, torch.zeros_like(each)).mean()


def identity_loss(canonical_source: Tensor, canonical_driving: Tensor) -> Tensor:
    """L_id (eq. 8): canonical keypoints (B,K,3) of two frames of one person agree."""
    return (canonical_source.float() - canonical_driving.float()).abs().mean()


def ssl_loss(expression: Tensor, expression_augmented: Tensor, centre: Tensor | None = None) -> Tensor:
    """L_ssl (eq. 7): one minus the cosine of the expression features (B,N) of a face and of its augmented copy.

    With a centre (B,N), f of another frame of the same clip, it is the cosine of what differs from that:
    ``|a - b|^2 / (|a|^2 + |b|^2)``, a and b less the centre, which is 1 - cos where they are equally long and stays smooth
    where frames hardly differ. Without one, what all faces or all frames of a person have in common makes every cosine
    nearly 1: f could be the person's name.
    """
    if centre is None:
        return embedding_loss(expression, expression_augmented)
    a, b = expression.float() - centre.float(), expression_augmented.float() - centre.float()
    return ((a - b).square().sum(1) / (a.square().sum(1) + b.square().sum(1) + 1e-3)).mean()


def embedding_loss(a: Tensor, b: Tensor) -> Tensor:
    """Mean of one minus the cosine of embeddings (B,N): of an identity network, of the generated and the source image.

    In [0,2]. Symmetric: detach the side that is the target.
    """
    return (1 - F.cosine_similarity(a.float(), b.float())).clamp(min=0).mean()


def size_loss(first: Tensor, second: Tensor, pair: tuple[int, int]) -> Tensor:
    """The distance of two keypoints in two sets (B,K,3) each is the same: mean absolute difference of its logarithms.

    For points that no expression moves, such as the corners of the eyes: what changes their distance is then the scale's.
    """
    a, b = pair
    distances = [(points[:, a].float() - points[:, b].float()).norm(dim=1).clamp(min=1e-6) for points in (first, second)]
    ratio: Tensor = distances[0] / distances[1]
    return ratio.log().abs().mean()


def deformation_loss(deformation: Tensor) -> Tensor:
    """L_delta (eq. 14): mean over keypoints of the L1 norm of the deformation (B,K,3)."""
    return deformation.float().abs().sum(-1).mean()


def _reduce(image: Tensor, size: torch.Size) -> Tensor:
    return image if image.shape[-2:] == size else F.interpolate(image, size=size, mode="area")


def _tap_distance(images: Sequence[Tensor], target: Tensor, backbone: Backbone) -> Tensor:
    """The normalised tap distances to `target` of several images of its size, summed over images and taps."""
    with torch.no_grad():
        wanted = [tap.float() for tap in backbone(target)]
    taps = backbone(torch.cat(list(images)))
    losses = []
    for tap, goal in zip(taps, wanted, strict=True):
        difference = (tap.float().unflatten(0, (len(images), -1)) - goal).abs().mean((2, 3, 4))
        losses.append((difference / (goal.abs().mean((1, 2, 3)) + 1e-3)).mean(1).sum())
    return torch.stack(losses).sum()
