"""What a model and the frozen priors recover of drawn heads, whose true attributes are known (see `synthetic`).

These are figures on drawings: they say how the parts of a motion are told apart, and replace no measurement on real video.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import ConfigError
from ..geometry import geodesic_angle, project_to_rotation, similarity, transform_image, transform_points
from ..media.image import to_tensor, to_uint8
from ..motion import Motion
from ..portrait import AnyKeypointModel
from ..relative import relative_motion
from .crops import composer
from .leakage import LEAKS, consistency
from .observe import Observed, Observer
from .synthetic import EXPRESSIONS, POSE, RANGES, Head, State, random_state, sweep

PX = 127.5
"""Pixels of a 256-pixel crop in one grid unit."""
RIDGE = 0.1
"""Penalty of the read-out, as a share of the inputs' mean squared length."""

DEFINITIONS = {
    "found": "share of the drawings in which the detector finds a face that the landmark network scores at least 0.5",
    "landmark_px": "mean distance of the 478 found landmarks from the true projected ones, px",
    "rotation_raw_deg": "mean angle between the prior's and the true rotation",
    "rotation_deg": "the same after one constant turn per head: what is frontal is a convention",
    "prior_scale_pct": "mean error of the prior's scale, %, after one factor per head: its unit is a convention",
    "prior_translation_pct": "mean error of the prior's translation, % of the crop's side, after one origin per head",
    "model_scale_pct": "prior_scale_pct for the scale of the model's motion()",
    "model_translation_pct": "prior_translation_pct for the translation of the model's motion()",
    "r2_*": "R2, on heads not fitted, of a ridge read-out of the true parameter from f, random poses; gaze: open eyes only",
    "r2_relative_*": "the same with the parameter and f less their head's mean: what relative motion uses",
    "r2_mesh_*": "r2_* from the pose-normalised landmarks instead of f: about what there was to be read",
    "equivariance_px": "mean distance of a turned, scaled, shifted picture's keypoints from the keypoints moved alike, px",
    "landmark_equivariance_px": "the same for the found landmarks",
    "found_scale_leak_pct": "(largest - smallest) / mean of s, %, while one expression parameter alone runs its range; worst one",
    "found_prior_scale_leak_pct": "found_scale_leak_pct for the prior's scale",
    "found_scale_slope_pct": "change of log s, %, per full true opening of the jaw (least squares), jaw alone moving",
    "found_translation_leak_pct": "largest distance of t from its mean, % of the crop's side, in the same sweeps; the worst one",
    "found_pose_leak_deg": "largest angle of R from the sweep's first, in the same sweeps; the worst one",
    "feature_leak": "RMS distance of f from its mean with only the pose moving, over that with only the expression moving",
    "deformation_leak": "the same for the deformation D_exp(f, x_c), x_c the head's mean",
    "canonical_consistency": LEAKS["canonical_consistency"].definition,
    "reenactment_px": "mean distance of the output's landmarks from the true ones of (source head, driving state), px",
    "reenactment_seen_px": "the same from the landmarks found in the drawing of (source head, driving state), px",
    "copy_px": "reenactment_seen_px of the unchanged source picture",
    "reenactment_lost": "share of the outputs in which no face is found",
}
"""One line for every figure; px are pixels of a 256-pixel crop, means are over the heads."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Recovery:
    """figures: by the names of `DEFINITIONS`; `per_head`: those that exist per head, (heads,), nan where unmeasured."""

    heads: int
    states: int
    seed: int
    figures: Figures
    per_head: dict[str, list[float]]


def recover(model: AnyKeypointModel, *, heads: int = 16, states: int = 16, seed: int = 0, quiet: bool = True) -> Recovery:
    """Draw `heads` identities, each in `states` random states and in states that move one kind of attribute alone; measure.

    Raises ConfigError for fewer than 4 heads or 4 states: a read-out must be fitted on some heads and tried on others.
    """
    if heads < 4 or states < 4:
        raise ConfigError(f"{heads} heads in {states} states are too few to measure; take 4 or more of each.")
    observer, people = Observer(model), [Head.random(np.random.default_rng([seed, i])) for i in range(heads)]
    rows: dict[str, list[float]] = defaultdict(list)
    seen: list[Observed] = []
    for number, head in enumerate(tqdm(people, desc="heads", unit="head", disable=quiet or None)):
        generator = np.random.default_rng([seed, number, 1])
        observed = observer.look(head, _varied(generator, states))
        seen.append(observed)
        base = random_state(generator, moving=("yaw", "pitch", "scale", "shift_x", "shift_y"))
        figures = {
            "found": len(observed) / states,
            "landmark_px": _distance_px(observed.points, torch.stack([drawing.landmarks for drawing in observed.drawings])),
            **pose_recovery(observed),
            **equivariance(observer, observed, generator),
            **expression_leak(observer, head, base),
            **pose_leak_of_features(observer, head, base, generator, count=states),
            **reenactment(observer, head, people[number - 1], generator, count=max(2, states // 4)),
        }
        for name, value in figures.items():
            rows[name].append(value)
    overall = {name: float(np.nanmean(values)) for name, values in rows.items()}
    overall |= read_out(seen) | {"canonical_consistency": consistency([one.canonical for one in seen]).value}
    return Recovery(heads, states, seed, overall, dict(rows))


def pose_recovery(observed: Observed) -> Figures:
    """Errors of rotation, scale and translation of one person; see `DEFINITIONS`."""
    true, found = observed.rotation, observed.face.rotation
    turn = project_to_rotation((true.transpose(1, 2) @ found).mean(0, keepdim=True))
    figures = {
        "rotation_raw_deg": float(geodesic_angle(found, true).mean()),
        "rotation_deg": float(geodesic_angle(found, true @ turn).mean()),
    }
    for name, source in (("prior", observed.face), ("model", observed.motion)):
        ratio = source.scale / observed.scale
        figures[f"{name}_scale_pct"] = float((ratio / ratio.log().mean().exp() - 1).abs().mean()) * 100
        # t found - t true = s R o: the person's own o is fitted, the rest is error.
        lever = (observed.scale[:, :, None] * true)[:, :2]
        offset = (source.translation - observed.translation)[:, :2]
        origin = torch.linalg.lstsq(lever.reshape(-1, 3), offset.reshape(-1, 1), driver="gelsd").solution
        rest = offset - (lever @ origin)[..., 0]
        figures[f"{name}_translation_pct"] = float(rest.norm(dim=1).mean()) * 50
    return figures


def equivariance(observer: Observer, observed: Observed, generator: np.random.Generator, *, count: int = 4) -> Figures:
    """How well keypoints and landmarks follow in-plane transforms of the first `count` pictures; see `DEFINITIONS`."""
    errors: dict[str, list[float]] = {"equivariance_px": [], "landmark_equivariance_px": []}
    for index in range(min(count, len(observed))):
        drawn = generator.uniform(-15, 15, 1), generator.uniform(0.85, 1.15, 1), generator.uniform(-0.1, 0.1, (1, 2))
        transform = similarity(*(torch.from_numpy(value).float() for value in drawn))
        picture = to_tensor(observed.drawings[index].image)[None]
        image = to_uint8(transform_image(picture, transform))[0]
        found = observer.find(image)
        if found is None:
            continue
        before = observer.keypoints(observed.face[index : index + 1])
        after = observer.keypoints(observer.face(image, found))
        errors["equivariance_px"].append(_distance_px(after, transform_points(before, transform)))
        moved_points = transform_points(observed.points[index : index + 1], transform)
        errors["landmark_equivariance_px"].append(_distance_px(found.points[None], moved_points))
    return {name: float(np.mean(values)) if values else float("nan") for name, values in errors.items()}


def expression_leak(observer: Observer, head: Head, base: State, *, steps: int = 5) -> Figures:
    """How much s, t and R move while the truth moves one expression parameter alone; see `DEFINITIONS`."""
    worst: dict[str, float] = defaultdict(float)
    slope = float("nan")
    for name in EXPRESSIONS:
        observed = observer.look(head, sweep(name, steps, base=base))
        motion = observed.motion
        leaks = {
            "found_scale_leak_pct": _range_pct(motion.scale),
            "found_prior_scale_leak_pct": _range_pct(observed.face.scale),
            "found_translation_leak_pct": float((motion.translation - motion.translation.mean(0))[:, :2].norm(dim=1).max()) * 50,
            "found_pose_leak_deg": float(geodesic_angle(motion.rotation, motion.rotation[:1].expand_as(motion.rotation)).max()),
        }
        for leak, value in leaks.items():
            worst[leak] = max(worst[leak], value)
        if name == "jaw":
            opening = observed.values("jaw") - observed.values("jaw").mean()
            slope = float((opening * motion.scale[:, 0].log()).sum() / opening.square().sum()) * 100
    return {**worst, "found_scale_slope_pct": slope}


def pose_leak_of_features(observer: Observer, head: Head, base: State, generator: np.random.Generator, *, count: int) -> Figures:
    """How much f and the deformation move with the pose alone, over how much with the expression alone; see `DEFINITIONS`."""
    moves = (POSE, EXPRESSIONS)
    states = [[random_state(generator, moving=moving, base=base) for _ in range(count)] for moving in moves]
    posing, acting = (observer.look(head, part) for part in states)
    own = torch.cat([posing.canonical, acting.canonical]).mean(0, keepdim=True)

    def deformation(motion: Motion) -> Tensor:
        return observer.model.keypoints(own.expand(len(motion), -1, -1), motion)[1]

    with torch.no_grad():
        shifts = [_spread(deformation(one.motion)) for one in (posing, acting)]
    return {
        "feature_leak": _spread(posing.motion.expression) / _spread(acting.motion.expression),
        "deformation_leak": shifts[0] / shifts[1],
    }


@torch.no_grad()
def reenactment(observer: Observer, source: Head, driver: Head, generator: np.random.Generator, *, count: int) -> Figures:
    """The source driven by another head, relative to a frame in which both are in one state; see `DEFINITIONS`."""
    start = State()
    model, targets = observer.model, [random_state(generator, base=start) for _ in range(count)]
    own, driving = observer.look(source, [start, *targets]), observer.look(driver, [start, *targets])
    common = [state for state in targets if state in own.states and state in driving.states]
    pairs = [(own.states.index(state), driving.states.index(state)) for state in common]
    if not pairs or start not in own.states or start not in driving.states:
        return dict.fromkeys(("reenactment_px", "reenactment_seen_px", "copy_px", "reenactment_lost"), float("nan"))
    prepared = model.prepare(own.face[:1])
    motions = relative_motion(model.signal(own.face[:1]), driving.motion, anchor=0)
    composed = composer(model, own.face[:1])
    errors: dict[str, list[float]] = defaultdict(list)
    for mine, theirs in pairs:
        (output,) = composed(model.render(prepared, motions[theirs]))
        found = observer.find(output)
        errors["reenactment_lost"].append(float(found is None))
        errors["copy_px"].append(_distance_px(own.points[0], own.points[mine]))
        if found is not None:
            errors["reenactment_px"].append(_distance_px(found.points, own.drawings[mine].landmarks))
            errors["reenactment_seen_px"].append(_distance_px(found.points, own.points[mine]))
    means = {name: float(np.mean(values)) for name, values in errors.items()}
    return {"reenactment_px": float("nan"), "reenactment_seen_px": float("nan"), **means}


def read_out(seen: Sequence[Observed]) -> Figures:
    """R2 of every true expression parameter, read linearly from f and from the mesh, fitted on the first half of the heads and
    tried on the others; see `DEFINITIONS`.
    """
    half, figures = len(seen) // 2, {}
    for name in EXPRESSIONS:
        # Behind closed lids there is no gaze to be read.
        shown = [one.open_eyes if name.startswith("gaze") else torch.ones(len(one), dtype=torch.bool) for one in seen]
        truth = [one.values(name).double()[rows] for one, rows in zip(seen, shown, strict=True)]
        features = [one.motion.expression.double()[rows] for one, rows in zip(seen, shown, strict=True)]
        meshes = [one.face.mesh.flatten(1).double()[rows] for one, rows in zip(seen, shown, strict=True)]
        figures["r2_" + name] = _r2(features, truth, half)
        figures["r2_mesh_" + name] = _r2(meshes, truth, half)
        centred = [x - x.mean(0) for x in features]
        figures["r2_relative_" + name] = _r2(centred, [x - x.mean(0) for x in truth], half)
    return dict(sorted(figures.items()))


def _varied(generator: np.random.Generator, count: int) -> list[State]:
    """Random states; in every second one the eyes are open."""
    waking = tuple(name for name in RANGES if not name.startswith("blink"))
    return [random_state(generator, moving=waking if index % 2 else tuple(RANGES)) for index in range(count)]


def _r2(inputs: list[Tensor], wanted: list[Tensor], half: int) -> float:
    """R2 on the heads from `half` on, of a read-out fitted on those before; one tensor per head."""
    known, truth = torch.cat(inputs[:half]), torch.cat(wanted[half:])
    centre, spread = known.mean(0), known.std(0).clamp_min(1e-6)
    fresh = (torch.cat(inputs[half:]) - centre) / spread
    guess = _ridge((known - centre) / spread, torch.cat(wanted[:half]), fresh)
    return float(1 - (truth - guess).square().sum() / (truth - truth.mean()).square().sum())


def _ridge(known: Tensor, wanted: Tensor, fresh: Tensor) -> Tensor:
    """Predictions for `fresh` (M,F) of a ridge regression on `known` (N,F), standardised, and `wanted` (N,)."""
    kernel = known @ known.T
    penalty = RIDGE * kernel.diagonal().mean()
    dual = torch.linalg.solve(kernel + penalty * torch.eye(len(known), dtype=known.dtype), wanted - wanted.mean())
    predicted: Tensor = fresh @ (known.T @ dual) + wanted.mean()
    return predicted


def _range_pct(values: Tensor) -> float:
    return float((values.max() - values.min()) / values.mean()) * 100


def _spread(values: Tensor) -> float:
    """RMS distance of a batch (N,...) from its mean."""
    return float((values - values.mean(0)).flatten(1).norm(dim=1).square().mean().sqrt())


def _distance_px(first: Tensor, second: Tensor) -> float:
    """Mean distance in the picture's plane, in pixels of 256, of points (...,3) in grid coordinates."""
    return float((first - second)[..., :2].norm(dim=-1).mean()) * PX
