"""The figure around a synthetic face: skull, hair, ears, eyeballs, teeth, the mouth's inside, neck and shoulders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..priors.groups import FACE_OVAL
from .heads import INNER_LIPS, JAW_DEGREES, Anatomy, Expression, Floats, Ints, topology, turn_jaw
from .paint import CLOTH, EYE, FACE, HAIR, MOUTH, SKIN, TEETH

_RINGS = 10
_CENTRE = np.array([0.0, -0.35, 0.6])
_RADII = np.array([0.87, 0.97, 0.86])
_TOP = (*range(28, 36), *range(0, 9))
"""Places in FACE_OVAL from ear to ear over the forehead."""
_INSIDE = {10: 151, 338: 337, 297: 299, 332: 333, 284: 298, 251: 301, 389: 368, 356: 264,
           109: 108, 67: 69, 103: 104, 54: 68, 21: 71, 162: 139, 127: 34, 234: 227, 454: 447}  # fmt: skip
"""The vertex of the face next to each of those: a fringe falls towards it."""


@dataclass(frozen=True)
class Style:
    """What an identity's figure has that its face has not.

    thickness: (36,10), of the hair over each place of the skull. fringe: (17,), how far the hair falls over the forehead.
    long: how far down the hair hangs, in the head's unit; 0 without. neck, shoulders: half widths.
    """

    thickness: Floats
    fringe: Floats
    long: float
    neck: float
    shoulders: float


@dataclass(frozen=True)
class Mesh:
    """vertices: (V,3). triangles: (M,3). material: (M,). uv: (V,2). shade: (V,), a factor on the light."""

    vertices: Floats
    triangles: Ints
    material: Ints
    uv: Floats
    shade: Floats


@dataclass(frozen=True)
class _Part:
    vertices: Floats
    triangles: Ints
    material: int
    uv: Floats
    shade: Floats | float = 1.0


def random_style(generator: np.random.Generator) -> Style:
    """A style drawn at random."""
    base = 0.0 if generator.random() < 0.1 else generator.uniform(0.06, 0.24)
    start = np.full(36, 4.0)  # the ring at which the hair starts: low at the nape
    start[list(_TOP)] = 0.0
    start[[28, 8]] = 2.0
    start[[9, 27]] = 3.0
    reach = ((np.arange(_RINGS) - start[:, None]) / 2).clip(0, 1)
    tufts = 1 + 0.15 * generator.normal(size=(36, _RINGS))
    thickness = base * reach * tufts - 0.03 * (reach == 0)
    if base == 0:
        thickness = np.full((36, _RINGS), -0.05)
    fringe = generator.uniform(0, 0.6) * generator.uniform(0.5, 1, len(_TOP)) if base else np.full(len(_TOP), -0.3)
    long = float(generator.uniform(0.9, 2.2)) if base and generator.random() < 0.4 else 0.0
    return Style(thickness, fringe, long, float(generator.uniform(0.36, 0.5)), float(generator.uniform(1.3, 1.7)))


def build(anatomy: Anatomy, style: Style, landmarks: Floats, expression: Expression, *, rotation: Floats, body: Floats) -> Mesh:
    """The whole figure, turned but neither scaled nor shifted.

    landmarks: (478,3) in the head's frame. rotation, body: (3,3), of the head and of the shoulders.
    """
    triangles, uv = topology()
    face = landmarks[:468]
    rings = _skull(face)
    parts = [
        _Part(face, triangles, FACE, uv),
        _Part(rings[:, 1:].reshape(-1, 3), _skull_triangles(), SKIN, _tile(36, _RINGS - 1)),
        *_hair(face, rings, style), *_ears(face), *_eyeballs(anatomy, expression), *_mouth(face, expression),
    ]  # fmt: skip
    head = _join(parts, turn=rotation)
    hanging = [_curtain(style, rotation, body)] if style.long else []
    return _append(head, [*hanging, _neck(style, rotation, body), _shoulders(style, body)])


def normals(mesh: Mesh) -> Floats:
    """Normals (V,3) of length 1, smooth over each part; those of the face and the skull point outwards."""
    a, b, c = (mesh.vertices[mesh.triangles[:, i]] for i in range(3))
    facets = np.cross(b - a, c - a)
    total: Floats = np.stack(
        [np.bincount(mesh.triangles.ravel(), np.repeat(facets[:, i], 3), len(mesh.vertices)) for i in range(3)], 1
    )
    total /= np.linalg.norm(total, axis=1, keepdims=True).clip(1e-12)
    return total


def _join(parts: list[_Part], *, turn: Floats) -> Mesh:
    empty = Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0))
    joined = _append(empty, parts)
    return Mesh(joined.vertices @ turn.T, joined.triangles, joined.material, joined.uv, joined.shade)


def _append(mesh: Mesh, parts: list[_Part]) -> Mesh:
    vertices, uv, shade = [mesh.vertices], [mesh.uv], [mesh.shade]
    triangles, material = [mesh.triangles], [mesh.material]
    count = len(mesh.vertices)
    for part in parts:
        # The skull's triangles name the face's vertices too, and come right after it.
        shared = part.material == SKIN and count == 468
        triangles.append(part.triangles + (0 if shared else count))
        material.append(np.full(len(part.triangles), part.material))
        vertices.append(part.vertices)
        uv.append(part.uv)
        shade.append(np.broadcast_to(part.shade, len(part.vertices)))
        count += len(part.vertices)
    joined = np.concatenate(triangles), np.concatenate(material)
    return Mesh(np.concatenate(vertices), *joined, np.concatenate(uv), np.concatenate(shade))


def _tile(columns: int, rows: int) -> Floats:
    """Texture places of a grid, column by column: u along the columns, v along the rows."""
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows), indexing="ij")
    return np.stack([u.ravel(), v.ravel()], 1)


@lru_cache(maxsize=16)
def _grid(columns: int, rows: int, closed: bool) -> Ints:
    """Triangles of a grid of vertices, column by column, facing away from (column direction x row direction)."""
    i, j = np.meshgrid(np.arange(columns if closed else columns - 1), np.arange(rows - 1), indexing="ij")
    a, b = i * rows + j, (i + 1) % columns * rows + j
    quads = np.stack([a, b, b + 1, a, b + 1, a + 1], -1)
    return quads.reshape(-1, 3).astype(np.int64)


@lru_cache(maxsize=1)
def _skull_triangles() -> Ints:
    """The grid of the skull, its first ring being the oval of the face."""
    rows = _RINGS
    names = np.empty((36, rows), np.int64)
    names[:, 0] = FACE_OVAL
    names[:, 1:] = 468 + np.arange(36 * (rows - 1)).reshape(36, rows - 1)
    return names.ravel()[_grid(36, rows, True)]


def _skull(face: Floats) -> Floats:
    """Rings (36,10,3) from the oval of the face to the back of the head."""
    edge = face[list(FACE_OVAL)] - _CENTRE
    length = np.linalg.norm(edge, axis=1, keepdims=True)
    start, pole = edge / length, np.array([0.0, 0.0, 1.0])
    angle = np.arccos((start @ pole).clip(-1, 1))[:, None, None]
    share = np.linspace(0, 0.97, _RINGS)[None, :, None]
    direction = (np.sin((1 - share) * angle) * start[:, None] + np.sin(share * angle) * pole) / np.sin(angle)
    ellipsoid = 1 / np.linalg.norm(direction / _RADII, axis=2, keepdims=True)
    blend = (share * 2.2).clip(0, 1)
    blend = blend * blend * (3 - 2 * blend)
    rings: Floats = _CENTRE + direction * (length[:, None] * (1 - blend) + ellipsoid * blend)
    return rings


def _hair(face: Floats, rings: Floats, style: Style) -> Iterator[_Part]:
    away = rings - _CENTRE
    away /= np.linalg.norm(away, axis=2, keepdims=True)
    shell = rings + away * style.thickness[..., None]
    yield _Part(shell.reshape(-1, 3), _grid(36, _RINGS, True)[:, ::-1], HAIR, _tile(36, _RINGS))
    top = [FACE_OVAL[i] for i in _TOP]
    inner = face[[_INSIDE[i] for i in top]]
    tips = face[top] + style.fringe[:, None] * (inner - face[top]) - [0, 0, 0.03]
    strip = np.stack([tips, (tips + shell[list(_TOP), 1]) / 2 + away[list(_TOP), 0] * 0.05, shell[list(_TOP), 1]], 1)
    if style.fringe[0] >= 0:
        yield _Part(strip.reshape(-1, 3), _grid(len(top), 3, False)[:, ::-1], HAIR, _tile(len(top), 3) * [1, 0.1])


def _curtain(style: Style, rotation: Floats, body: Floats) -> _Part:
    """Long hair, hanging behind the ears and the neck: it turns with the head above and stays with the shoulders below."""
    around, down = np.meshgrid(np.deg2rad(np.linspace(-108, 108, 25)), np.linspace(0, 1, 8), indexing="ij")
    width = 0.6 + 0.4 * np.sqrt((4 * down).clip(0, 1)) + style.thickness.max() * 0.5 + 0.08 * down + 0.02 * np.cos(9 * around)
    vertices = np.stack([width * np.sin(around), -0.95 + down * (0.25 + style.long), 0.75 + 0.75 * width * np.cos(around)], -1)
    hanging = _between(vertices.reshape(-1, 3), (0.7 * down**2).reshape(-1, 1), rotation, body)
    return _Part(hanging, _grid(25, 8, False), HAIR, _tile(25, 8), 0.8)


def _between(vertices: Floats, share: Floats, rotation: Floats, body: Floats) -> Floats:
    """Vertices that turn with the head where their share is 0 and with the shoulders where it is 1."""
    turned: Floats = (1 - share) * (vertices @ rotation.T) + share * (vertices @ body.T)
    return turned


@lru_cache(maxsize=4)
def _ball(columns: int, rows: int) -> tuple[Floats, Ints]:
    """The unit sphere around the z axis, pole to pole."""
    around, along = np.meshgrid(np.arange(columns) * 2 * np.pi / columns, np.linspace(0, np.pi, rows), indexing="ij")
    points = np.stack([np.sin(along) * np.cos(around), np.sin(along) * np.sin(around), -np.cos(along)], -1)
    return points.reshape(-1, 3), _grid(columns, rows, True)


def _ears(face: Floats) -> Iterator[_Part]:
    ball, triangles = _ball(12, 9)
    for vertex, side in ((234, -1), (454, 1)):
        centre = face[vertex] + [side * 0.05, 0.05, 0.1]
        tilt = ball * [0.07, 0.22, 0.13] + ball[:, 1:2] * [0, 0, -0.05] + ball[:, 2:] * [side * 0.06, 0, 0]
        yield _Part(centre + tilt, triangles, SKIN, np.full((len(ball), 2), 0.5), 0.9)


def _eyeballs(anatomy: Anatomy, expression: Expression) -> Iterator[_Part]:
    ball, triangles = _ball(20, 15)
    turned = ball @ anatomy.gaze(expression).T
    # The upper lid shades the top of the eyeball.
    shade = 0.62 + 0.38 * ((turned[:, 1] + 0.55) / 0.4).clip(0, 1)
    for centre in anatomy.eyes:
        yield _Part(centre + anatomy.eye_radius * turned, triangles, EYE, (ball[:, :2] + 1) / 2, shade)


def _mouth(face: Floats, expression: Expression) -> Iterator[_Part]:
    """A dark bag behind the inner lips, and two rows of teeth; the lower one turns with the jaw."""
    lips = face[list(INNER_LIPS)]
    middle = lips.mean(0)
    back = np.broadcast_to(middle + np.array([0, 0, 0.22]), lips.shape)
    bag = np.stack([lips, lips + np.array([0, 0, 0.09]), (lips + middle) / 2 + np.array([0, 0, 0.2]), back], 1)
    shade = np.broadcast_to([0.8, 0.5, 0.25, 0.15], (len(lips), 4)).ravel()
    yield _Part(bag.reshape(-1, 3), _grid(len(lips), 4, True), MOUTH, _tile(len(lips), 4), shade)
    jaw = np.deg2rad(JAW_DEGREES * expression.jaw)
    half = abs(lips[0, 0] - lips[10, 0]) / 2 * 0.8
    x, y = np.meshgrid(np.linspace(-1, 1, 13) * half, np.linspace(0, 0.1, 3), indexing="ij")
    for lip, offset, angle in ((face[0], 0.045, 0.0), (face[17], -0.1, jaw)):
        _, height, depth = turn_jaw(lip[None], -angle)[0]
        teeth = np.stack([x, height + offset + y, depth + 0.1 + 2.2 * x * x], -1).reshape(-1, 3)
        bright = 0.55 + 0.35 * (1 - np.abs(teeth[:, 0]) / half)
        yield _Part(turn_jaw(teeth, angle), _grid(13, 3, False), TEETH, _tile(13, 3), bright)


def _neck(style: Style, rotation: Floats, body: Floats) -> _Part:
    """A tube whose upper end turns with the head and whose lower end stays with the shoulders."""
    around, down = np.meshgrid(np.linspace(0, 2 * np.pi, 24, endpoint=False), np.linspace(0, 1, 8), indexing="ij")
    width = style.neck + 0.12 * (down - 0.75).clip(0) / 0.25
    tube = np.stack([width * np.cos(around), 0.6 + 1.2 * down, 0.65 + 0.1 * down + width * np.sin(around)], -1).reshape(-1, 3)
    vertices = _between(tube, down.reshape(-1, 1), rotation, body)
    return _Part(vertices, _grid(24, 8, True), SKIN, _tile(24, 8), (0.5 + 0.5 * (down.ravel() - 0.2) / 0.5).clip(0.5, 1))


def _shoulders(style: Style, body: Floats) -> _Part:
    around, down = np.meshgrid(np.linspace(0, 2 * np.pi, 36, endpoint=False), np.linspace(0, 1, 9), indexing="ij")
    spread = np.sqrt(1 - (1 - (down * 2.2).clip(0, 1)) ** 2)
    across, deep = style.neck + 0.05 + (style.shoulders - style.neck) * spread, style.neck + 0.08 + 0.25 * spread
    vertices = np.stack([across * np.cos(around), 1.45 + 2.6 * down**1.3, 0.7 + deep * np.sin(around)], -1).reshape(-1, 3)
    return _Part(vertices @ body.T, _grid(36, 9, True), CLOTH, _tile(36, 9))
