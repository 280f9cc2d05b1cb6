"""Geometry of the synthetic heads: who they are, and what their expression does to them.

The frame is the head's own, that of `mmfa.priors.pose.template`: x right, y down, z away from the viewer, the face's
half width about 1. Whatever is "left" lies on the left of the picture of a frontal face.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from ..priors.groups import BROWS, EYES, FACE_OVAL, LIPS
from ..priors.pose import template

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UPPER_LIDS = ((246, 161, 160, 159, 158, 157, 173), (466, 388, 387, 386, 385, 384, 398))
LOWER_LIDS = ((7, 163, 144, 145, 153, 154, 155), (249, 390, 373, 374, 380, 381, 382))
_CREASES = ((247, 30, 29, 27, 28, 56, 190), (467, 260, 259, 257, 258, 286, 414))
EYE_RINGS = (EYES[:16], EYES[16:])
_INNER_UPPER = (191, 80, 81, 82, 13, 312, 311, 310, 415)
_INNER_LOWER = (95, 88, 178, 87, 14, 317, 402, 318, 324)
INNER_LIPS = (78, *_INNER_LOWER, 308, *reversed(_INNER_UPPER))
_UPPER_LIP = (185, 40, 39, 37, 0, 267, 269, 270, 409)
_LOWER_LIP = (146, 91, 181, 84, 17, 314, 405, 321, 375)
_CORNERS = (61, 78, 291, 308)
_CHIN = (152, 148, 176, 377, 400, 175, 199, 200, 18)
_NOSE = (1, 2, 4, 5, 6, 98, 168, 195, 197, 327)

JAW_DEGREES = 20.0
GAZE_DEGREES = (25.0, 15.0)
_HINGE = np.array([0.0, 0.0, 0.55])
_SMILE = np.array([0.1, -0.08, 0.06])
_BROW = np.array([0.0, -0.11, 0.0])


@dataclass(frozen=True, kw_only=True)
class Expression:
    """What the face does; all 0 is neutral, and every value is linear in its own movement.

    jaw: 0 closed to 1, turned open by 20 degrees. smile: 0 to 1. blink_left, blink_right: 0 open to 1 closed. brow: 0 to 1,
    raised. gaze_x, gaze_y: -1 to 1, to the picture's left or right by 25 degrees, up or down by 15.
    """

    jaw: float = 0.0
    smile: float = 0.0
    blink_left: float = 0.0
    blink_right: float = 0.0
    brow: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


@dataclass(frozen=True)
class Anatomy:
    """One identity's shape.

    face: (468,3), neutral. eyes: (2,3), centres of the eyeballs. eye_radius, iris_radius: in the same unit.
    """

    face: Floats
    eyes: Floats
    eye_radius: float
    iris_radius: float

    def express(self, expression: Expression) -> Floats:
        """The 478 landmarks (478,3) in the head's frame, irises included."""
        blends, points = _blends(), self.face.copy()
        side = np.sign(points[:, :1])
        points += (
            expression.smile * blends.smile[:, None] * np.concatenate([side, np.ones_like(side), np.ones_like(side)], 1) * _SMILE
        )
        points += expression.brow * blends.brow[:, None] * _BROW
        for eye, amount in enumerate((expression.blink_left, expression.blink_right)):
            self._blink(points, eye, amount)
        points = turn_jaw(points, np.deg2rad(JAW_DEGREES * expression.jaw) * blends.jaw)
        return np.concatenate([points, self._irises(expression)])

    def gaze(self, expression: Expression) -> Floats:
        """The eyeballs' turn (3,3): column 2 is minus the direction of sight."""
        x, y = (
            np.deg2rad(limit) * value for limit, value in zip(GAZE_DEGREES, (-expression.gaze_x, expression.gaze_y), strict=True)
        )
        around_y = np.array([[np.cos(x), 0, np.sin(x)], [0, 1, 0], [-np.sin(x), 0, np.cos(x)]])
        around_x = np.array([[1, 0, 0], [0, np.cos(y), -np.sin(y)], [0, np.sin(y), np.cos(y)]])
        turn: Floats = around_y @ around_x
        return turn

    def _blink(self, points: Floats, eye: int, amount: float) -> None:
        upper, lower, crease = (list(rows[eye]) for rows in (UPPER_LIDS, LOWER_LIDS, _CREASES))
        gap = points[lower] - points[upper]
        points[upper] += amount * 0.86 * gap
        points[crease] += amount * 0.45 * gap
        points[lower] -= amount * 0.1 * gap
        # The lids slide over the eyeball, never through it.
        lids = upper + lower + crease
        away = points[lids] - self.eyes[eye]
        distance = np.linalg.norm(away, axis=1, keepdims=True)
        points[lids] = self.eyes[eye] + away * np.maximum(1, 1.06 * self.eye_radius / distance)

    def _irises(self, expression: Expression) -> Floats:
        """Centre, then the right, top, left and bottom of each iris."""
        across = np.array([[0, 0], [1, 0], [0, -1], [-1, 0], [0, 1]]) * self.iris_radius
        depth = -np.sqrt(self.eye_radius**2 - (across**2).sum(1, keepdims=True))
        local = np.concatenate([across, depth], 1) @ self.gaze(expression).T
        return (self.eyes[:, None] + local).reshape(10, 3)


def turn_jaw(points: Floats, angle: Floats | float) -> Floats:
    """Points (N,3) turned about the jaw's hinge by angles (N,) or one, in radians; positive opens the mouth."""
    y, z = (points - _HINGE)[:, 1:].T
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([points[:, 0], _HINGE[1] + cosine * y - sine * z, _HINGE[2] + sine * y + cosine * z], 1)


def random_anatomy(generator: np.random.Generator) -> Anatomy:
    """A random shape: proportions, features, and smooth deformations, nearly symmetric."""
    points = _neutral().copy()

    def normal(spread: float, limit: float = 2.0) -> float:
        return float(np.clip(generator.normal(), -limit, limit)) * spread

    def stretch(centre: list[float], width: float, factors: list[float], shift: list[float]) -> None:
        """Scale and shift what lies around `centre`, and its mirror image if it is off the middle."""
        centres = [np.array(centre)] if centre[0] == 0 else [np.array(centre), np.array(centre) * [-1, 1, 1]]
        for number, place in enumerate(centres):
            weight = np.exp(-((points - place)[:, :2] ** 2).sum(1, keepdims=True) / (2 * width**2))
            mirror = np.array([-1.0 if number else 1.0, 1, 1])
            points[:] += weight * ((points - place) * factors + np.array(shift) * mirror)

    points[:, 0] *= 1 + normal(0.04) + normal(0.06) * (points[:, 1] - 0.1).clip(0)  # jaw
    points[:, 0] *= 1 + normal(0.05) * (-0.3 - points[:, 1]).clip(0)  # forehead
    points[:, 1] += normal(0.06) * (points[:, 1] - 0.45).clip(0)  # chin
    points[:, 1] += normal(0.08) * (points[:, 1] + 0.55).clip(max=0)
    points[:, 2] *= 1 + normal(0.06)
    stretch([0, 0.05, -0.3], 0.2, [normal(0.13), normal(0.05), normal(0.1)], [0, normal(0.02), normal(0.03)])  # nose
    stretch([0, -0.25, -0.2], 0.12, [normal(0.06), 0, 0], [0, 0, normal(0.03)])  # its bridge
    stretch([0, 0.44, -0.12], 0.17, [normal(0.09), normal(0.12), 0], [0, normal(0.025), normal(0.02)])  # mouth
    stretch([0.35, -0.31, 0.0], 0.16, [normal(0.05), 0.12 + normal(0.14), 0], [normal(0.02), normal(0.015), normal(0.02)])  # eyes
    stretch([0.35, -0.6, -0.05], 0.14, [0, 0, 0], [0, normal(0.025), normal(0.015)])  # brows
    stretch([0.6, 0.1, 0.2], 0.25, [0, 0, 0], [normal(0.03), 0, normal(0.03)])  # cheekbones
    stretch([0, 0.95, 0.0], 0.22, [normal(0.1), 0, 0], [0, 0, normal(0.05)])  # chin's tip
    frequency, phase = generator.normal(size=(6, 2)) * 1.6, generator.uniform(0, 2 * np.pi, 6)
    even = np.stack([np.abs(points[:, 0]), points[:, 1]], 1)
    waves = np.cos(even @ frequency.T + phase)
    smooth = waves @ (generator.normal(size=(6, 3)) * 0.008)
    smooth[:, 0] *= np.tanh(4 * points[:, 0])
    points += smooth + np.cos(points[:, :2] @ frequency.T + phase) @ (generator.normal(size=(6, 3)) * 0.002)
    radius = 0.165 * (1 + normal(0.04))
    return Anatomy(points, _eye_centres(points, radius), radius, 0.4 * radius * (1 + normal(0.04)))


def _eye_centres(face: Floats, radius: float) -> Floats:
    """Eyeballs whose front lies just behind the lids' middle."""
    centres = []
    for ring, upper, lower in zip(EYE_RINGS, UPPER_LIDS, LOWER_LIDS, strict=True):
        x, y = (face[list(ring), :2].min(0) + face[list(ring), :2].max(0)) / 2
        front = face[[upper[3], lower[3]], 2].mean()
        centres.append([x, y, front + 0.99 * radius])
    return np.array(centres)


@dataclass(frozen=True)
class _Blends:
    """How much each vertex of the face (468,) takes part in a movement."""

    jaw: Floats
    smile: Floats
    brow: Floats


@lru_cache(maxsize=1)
def topology() -> tuple[Ints, Floats]:
    """Triangles (M,3) of the face mesh, open at the eyes and the mouth; texture places (468,2) in [0,1]."""
    with as_file(files("mmfa.priors") / "weights" / "face_topology.safetensors") as path:
        tensors = load_file(str(path))
    triangles = tensors["triangles"].astype(np.int64)
    for ring in (*EYE_RINGS, INNER_LIPS):
        triangles = triangles[~np.isin(triangles, ring).all(1)]
    return triangles, tensors["uv"].astype(np.float64)


@lru_cache(maxsize=1)
def _neutral() -> Floats:
    """The template with its lips closed: its own are a little apart."""
    points = template()[0].double().numpy()
    upper, lower = list(_INNER_UPPER), list(_INNER_LOWER)
    gap = points[lower] - points[upper]
    still = set(range(468)) - _lip_band()
    closing = {**dict(zip(upper, 0.47 * gap[:, 1], strict=True)), **dict(zip(lower, -0.47 * gap[:, 1], strict=True))}
    points[:, 1] += _harmonic(dict.fromkeys((*still, *_UPPER_LIP, *_LOWER_LIP, *_CORNERS), 0.0) | closing)
    return points


def _lip_band() -> set[int]:
    """The vertices within the lips' outer contour: those that the mesh joins to the inner one without crossing the outer."""
    triangles, _ = topology()
    band, outer = np.isin(np.arange(468), INNER_LIPS), np.isin(np.arange(468), (*_UPPER_LIP, *_LOWER_LIP, 61, 291))
    while True:
        touching = triangles[(band & ~outer)[triangles].any(1)]
        if band[touching].all():
            return set(np.flatnonzero(band).tolist())
        band[touching] = True


@lru_cache(maxsize=1)
def _blends() -> _Blends:
    oval = set(FACE_OVAL)
    eyes = {*EYE_RINGS[0], *EYE_RINGS[1]}
    upper, lower = (*_UPPER_LIP, *_INNER_UPPER), (*_LOWER_LIP, *_INNER_LOWER)
    high = {i for i in oval if template()[0][i, 1] < 0.1}
    hinge = {58: 0.4, 288: 0.4, 172: 0.75, 397: 0.75, 136: 0.9, 365: 0.9, 132: 0.15, 361: 0.15, 93: 0.0, 323: 0.0}
    jaw = {**dict.fromkeys((*high, *eyes, *_NOSE, *upper), 0.0), **dict.fromkeys((*lower, *_CHIN), 1.0),
           **dict.fromkeys(_CORNERS, 0.45), **hinge}  # fmt: skip
    smile = {
        **dict.fromkeys((*oval, *eyes, *_NOSE, *BROWS), 0.0),
        **dict.fromkeys(_CORNERS, 1.0),
        0: 0.05,
        17: 0.05,
        13: 0.05,
        14: 0.05,
    }
    brow = {**dict.fromkeys((*oval, *eyes, *_NOSE, *LIPS), 0.0), **dict.fromkeys(BROWS, 1.0)}
    return _Blends(_harmonic(jaw), _harmonic(smile), _harmonic(brow))


def _harmonic(fixed: dict[int, float]) -> Floats:
    """The smoothest weights (468,) over the mesh that take the `fixed` values."""
    triangles, _ = topology()
    adjacent = np.zeros((468, 468))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        adjacent[triangles[:, a], triangles[:, b]] = adjacent[triangles[:, b], triangles[:, a]] = 1
    system = np.diag(adjacent.sum(1)) - adjacent
    rows, values = list(fixed), np.zeros(468)
    system[rows] = 0
    system[rows, rows] = 1
    values[rows] = list(fixed.values())
    return np.asarray(np.linalg.solve(system, values), np.float64)
