"""The metrics as pure functions. Each is defined, with its unit and source, in `mmfa.evaluate.definitions`.

Arguments are (generated, driving), one row per frame; landmarks are in pixels of a frame scaled to 256. A frame in which a face
was missed holds NaN and stays NaN in the result: it is never dropped here, and counted by `mkr`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import geodesic_angle, matrix_to_euler
from ..priors.groups import LIPS, eye_opening, mouth_opening

PSNR_CAP = 100.0
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2
_LUMA = (0.299, 0.587, 0.114)
# Degrees, and shares of an eye: equal frames differ by 4e-7 degrees where a network's rounding depends on the place in a batch.
_LEAST_TURN, _LEAST_OPENING = 1e-4, 1e-6

# Vertices of the mesh nearest to the 68 iBUG points, in their order: jaw 17, brows 10, nose 9, eyes 12, lips 20.
MESH68 = (
    127, 234, 93, 132, 172, 136, 150, 176, 152, 400, 379, 365, 397, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91,
    78, 81, 13, 311, 308, 402, 14, 178,
)  # fmt: skip
# Iris centre and the two corners of its eye, for both eyes; the corners run from the image's left to its right.
_EYES = ((468, 33, 133), (473, 362, 263))


def psnr(generated: Tensor, driving: Tensor) -> Tensor:
    """Images (B,3,H,W) in [0,1] -> dB (B,), at most 100."""
    _check_images(generated, driving)
    error = (generated - driving).square().mean((1, 2, 3), dtype=torch.float64)
    return -10 * torch.log10(error.clamp_min(10 ** (-PSNR_CAP / 10)))


def ssim(generated: Tensor, driving: Tensor) -> Tensor:
    """Images (B,3,H,W) in [0,1], at least 11 x 11 -> (B,) in [-1,1]."""
    _check_images(generated, driving)
    if min(generated.shape[-2:]) < _WINDOW:
        raise ValueError(f"images must be at least {_WINDOW} x {_WINDOW}, got {tuple(generated.shape)}")
    # Around 0 the float32 difference E[x^2] - E[x]^2 loses fewer digits.
    a, b = generated - 0.5, driving - 0.5
    mean_a, mean_b, aa, bb, ab = torch.split(_gaussian(torch.cat([a, b, a * a, b * b, a * b], 1)), 3, 1)
    variance_a, variance_b, covariance = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    mean_a, mean_b = mean_a + 0.5, mean_b + 0.5
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    means: Tensor = (luminance * structure).mean((1, 2, 3), dtype=torch.float64)
    return means


def sharpness(generated: Tensor, driving: Tensor) -> Tensor:
    """Images (B,3,H,W) in [0,1] -> ratio (B,); NaN where the driving frame is flat."""
    _check_images(generated, driving)
    reference = _laplacian_variance(driving)
    return torch.where(reference > 0, _laplacian_variance(generated) / reference, math.nan)


def flicker(generated: Tensor, driving: Tensor) -> Tensor:
    """Consecutive images (T,3,H,W) in [0,1] -> grey levels (T,) of 255; the first is NaN. For aligned frames only."""
    _check_images(generated, driving)
    change, expected = generated.diff(dim=0).abs(), driving.diff(dim=0).abs()
    excess = 255 * (change - expected).clamp_min(0).mean((1, 2, 3), dtype=torch.float64)
    return torch.cat([excess.new_full((1,), math.nan), excess])


def csim(generated: Tensor, reference: Tensor) -> Tensor:
    """Dlib embeddings (T,128) -> cosine (T,)."""
    return _cosine(generated, reference)


def csim_faceres(generated: Tensor, reference: Tensor) -> Tensor:
    """Faceres embeddings (T,1024) -> cosine (T,)."""
    return _cosine(generated, reference)


def aed_l2(generated: Tensor, reference: Tensor) -> Tensor:
    """Dlib embeddings (T,128) -> Euclidean distance (T,)."""
    distances: Tensor = _difference(generated, reference).norm(dim=1)
    return distances


def aed_sq(generated: Tensor, reference: Tensor) -> Tensor:
    """Dlib embeddings (T,128) -> squared Euclidean distance (T,)."""
    return _difference(generated, reference).square().sum(1)


def aed_mean_abs(generated: Tensor, reference: Tensor) -> Tensor:
    """Dlib embeddings (T,128) -> mean absolute difference (T,)."""
    return _difference(generated, reference).abs().mean(1)


def akd_l1_mesh68(generated: Tensor, driving: Tensor) -> Tensor:
    """Landmarks (T,478,3) -> px (T,): mean over coordinates, about 0.6 of the Euclidean distance."""
    return _offsets(generated, driving)[:, list(MESH68)].abs().mean((1, 2))


def akd_l2_mesh68(generated: Tensor, driving: Tensor) -> Tensor:
    """Landmarks (T,478,3) -> px (T,): mean Euclidean distance of 68 points."""
    means: Tensor = _offsets(generated, driving)[:, list(MESH68)].norm(dim=2).mean(1)
    return means


def akd_l2_mesh478(generated: Tensor, driving: Tensor) -> Tensor:
    """Landmarks (T,478,3) -> px (T,): mean Euclidean distance of all points."""
    means: Tensor = _offsets(generated, driving).norm(dim=2).mean(1)
    return means


def akd_l2_lips40(generated: Tensor, driving: Tensor) -> Tensor:
    """Landmarks (T,478,3) -> px (T,): mean Euclidean distance of the 40 points of the lips."""
    means: Tensor = _offsets(generated, driving)[:, list(LIPS)].norm(dim=2).mean(1)
    return means


def mkr(generated: Tensor, driving: Tensor) -> Tensor:
    """Found flags (T,) bool -> 1 missed, 0 found, NaN where the driving frame shows no face either; its mean is the rate."""
    if generated.shape != driving.shape or generated.dtype != torch.bool or driving.dtype != torch.bool:
        raise ValueError(f"found flags must be (T,) bool, got {generated.shape} {generated.dtype} and {driving.shape}")
    return torch.where(driving, (~generated).double(), math.nan)


def rotation_error(generated: Tensor, driving: Tensor) -> Tensor:
    """Rotations (T,3,3) -> degrees (T,)."""
    _check_rotations(generated, driving)
    return geodesic_angle(generated.double(), driving.double())


def apd_mesh(generated: Tensor, driving: Tensor) -> Tensor:
    """Rotations (T,3,3) -> radians (T,): mean absolute difference of pitch, yaw and roll."""
    _check_rotations(generated, driving)
    a, b = (torch.stack(matrix_to_euler(rotation.double()), 1) for rotation in (generated, driving))
    return torch.deg2rad((a - b + 180).remainder(360) - 180).abs().mean(1)


def gaze_error(generated: Tensor, driving: Tensor) -> Tensor:
    """Landmarks (T,478,3) -> eye widths (T,). Blind to where the face is, how large and how it is turned in the plane."""
    _check_points(generated, driving)
    means: Tensor = (_gaze(generated) - _gaze(driving)).norm(dim=2).mean(1)
    return means


def jitter(generated: Tensor) -> Tensor:
    """Landmarks (T,478,3) of consecutive frames -> px/frame^2 (T,); NaN at both ends and beside missed frames."""
    _check_points(generated, generated)
    nan = generated.new_full((1,), math.nan, dtype=torch.float64)
    if len(generated) < 3:
        return nan.expand(len(generated)).clone()
    second = generated[2:, :, :2] - 2 * generated[1:-1, :, :2] + generated[:-2, :, :2]
    return torch.cat([nan, second.double().norm(dim=2).mean(1), nan])


def jitter_excess(generated: Tensor, driving: Tensor) -> Tensor:
    """Landmarks (T,478,3) of consecutive frames -> px/frame^2 (T,), negative where the output is calmer than the driver."""
    _check_points(generated, driving)
    return jitter(generated) - jitter(driving)


def yaw_r(generated: Tensor, driving: Tensor) -> Tensor:
    """Rotations (T,3,3) of one clip -> rows (T,2) for `bootstrap.correlation`, degrees."""
    _check_rotations(generated, driving)
    return centred(matrix_to_euler(generated.double())[1], matrix_to_euler(driving.double())[1], least=_LEAST_TURN)


def mouth_r(generated: Tensor, driving: Tensor) -> Tensor:
    """Landmarks (T,478,3) of one clip -> rows (T,2) for `bootstrap.correlation`, of `mouth_opening`."""
    _check_points(generated, driving)
    return centred(mouth_opening(generated), mouth_opening(driving), least=_LEAST_OPENING)


def eye_r(generated: Tensor, driving: Tensor) -> Tensor:
    """Landmarks (T,478,3) of one clip -> rows (T,2) for `bootstrap.correlation`, of `eye_opening`."""
    _check_points(generated, driving)
    return centred(eye_opening(generated), eye_opening(driving), least=_LEAST_OPENING)


def centred(measured: Tensor, asked: Tensor, *, least: float = 0.0) -> Tensor:
    """Values (T,) of generated and driving frames of one clip -> (T,2) without their means, NaN where either is missing.

    least: a side whose values are all nearer to their mean than this doesn't vary, and is 0.
    """
    if measured.shape != asked.shape or measured.dim() != 1:
        raise ValueError(f"values must be two (T,), got {tuple(measured.shape)} and {tuple(asked.shape)}")
    pairs = torch.stack([measured, asked], 1).double()
    pairs[pairs.isnan().any(1)] = math.nan
    pairs -= pairs.nanmean(0)
    still = ~(pairs.abs() >= least).any(0)
    return torch.where(still & ~pairs.isnan(), 0.0, pairs)


def _gaussian(maps: Tensor) -> Tensor:
    """The weighted mean over each 11 x 11 window that lies inside: (B,C,H,W) -> (B,C,H-10,W-10)."""
    steps = torch.arange(_WINDOW, device=maps.device, dtype=torch.float64) - _WINDOW // 2
    kernel = (-steps.square() / (2 * _SIGMA**2)).exp()
    kernel = (kernel / kernel.sum()).to(maps).expand(maps.shape[1], 1, 1, _WINDOW)
    rows = F.conv2d(maps, kernel, groups=maps.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=maps.shape[1])


def luma(images: Tensor) -> Tensor:
    """Images (B,3,H,W) -> (B,1,H,W), by BT.601."""
    return (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)


def laplacian(images: Tensor) -> Tensor:
    """Of the luma of images (B,3,H,W), at every pixel that has four neighbours: (B,1,H-2,W-2)."""
    kernel = images.new_tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return F.conv2d(luma(images), kernel)


def _laplacian_variance(images: Tensor) -> Tensor:
    return laplacian(images).double().var((1, 2, 3))


def _gaze(points: Tensor) -> Tensor:
    """Iris centres (T,2,2): along and across the line of each eye's corners, from its middle, in eye widths."""
    eyes = []
    for iris, left, right in _EYES:
        line = points[:, right, :2] - points[:, left, :2]
        offset = points[:, iris, :2] - (points[:, right, :2] + points[:, left, :2]) / 2
        across = torch.stack([-line[:, 1], line[:, 0]], 1)
        eyes.append(torch.stack([(offset * line).sum(1), (offset * across).sum(1)], 1) / line.square().sum(1, keepdim=True))
    return torch.stack(eyes, 1)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    _check_embeddings(a, b)
    return F.cosine_similarity(a.double(), b.double(), dim=1)


def _difference(a: Tensor, b: Tensor) -> Tensor:
    _check_embeddings(a, b)
    return a.double() - b.double()


def _offsets(a: Tensor, b: Tensor) -> Tensor:
    _check_points(a, b)
    return (a.double() - b.double())[..., :2]


def _check_images(a: Tensor, b: Tensor) -> None:
    if a.dim() != 4 or a.shape[1] != 3 or a.shape != b.shape:
        raise ValueError(f"images must be two (B, 3, H, W), got {tuple(a.shape)} and {tuple(b.shape)}")


def _check_points(a: Tensor, b: Tensor) -> None:
    if a.dim() != 3 or a.shape[1:] != (478, 3) or a.shape != b.shape:
        raise ValueError(f"landmarks must be two (T, 478, 3), got {tuple(a.shape)} and {tuple(b.shape)}")


def _check_rotations(a: Tensor, b: Tensor) -> None:
    if a.dim() != 3 or a.shape[1:] != (3, 3) or a.shape != b.shape:
        raise ValueError(f"rotations must be two (T, 3, 3), got {tuple(a.shape)} and {tuple(b.shape)}")


def _check_embeddings(a: Tensor, b: Tensor) -> None:
    if a.dim() != 2 or a.shape != b.shape:
        raise ValueError(f"embeddings must be two (T, D), got {tuple(a.shape)} and {tuple(b.shape)}")
