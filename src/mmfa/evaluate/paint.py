"""Paint of the synthetic heads: colours and textures, drawn for each identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ..priors.groups import LIPS
from .heads import EYE_RINGS, INNER_LIPS, LOWER_LIDS, UPPER_LIDS, Floats, topology

FACE, SKIN, HAIR, EYE, TEETH, MOUTH, CLOTH = range(7)
"""The materials; each is one layer of a `Paint`."""
SIDE = 256
Blend = Callable[[Floats, Floats, float], None]
"""Lays a colour over the texture of the face: mask, colour, strength."""
_SPECULAR = np.array([0.10, 0.06, 0.10, 0.7, 0.3, 0.1, 0.0], np.float32)
_SHARPNESS = np.array([20, 20, 12, 150, 60, 30, 1], np.float32)
_BROW_ROWS = (((70, 63, 105, 66, 107), (46, 53, 52, 65, 55)), ((300, 293, 334, 296, 336), (276, 283, 282, 295, 285)))
_LINES = ((129, 203, 206, 216), (358, 423, 426, 436))
_NOSTRILS = (((98, 240, 97), 60), ((327, 460, 326), 290))
_SKINS = np.array([[244, 208, 184], [230, 188, 160], [214, 166, 134], [190, 138, 104], [150, 102, 74], [112, 74, 54]], float)
_HAIRS = np.array([[28, 22, 20], [60, 40, 28], [104, 70, 42], [168, 128, 76], [140, 68, 38], [150, 148, 146]], float)
_IRISES = np.array([[82, 54, 34], [60, 40, 28], [96, 110, 74], [92, 122, 150], [112, 122, 128]], float)


@dataclass(frozen=True)
class Paint:
    """layers: (7,256,256,3) float32 in [0,255], one texture for each material. background: (64,64,3), to be enlarged.

    light: (3,), towards the light, in the camera's frame, of length 1. ambient: in [0,1].
    """

    layers: NDArray[np.float32]
    background: NDArray[np.uint8]
    light: NDArray[np.float32]
    ambient: float

    def shade(self, material: NDArray[np.int64], uv: NDArray[np.float32], normal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Colours (P,3) of samples: material (P,), texture places uv (P,2) in [0,1], normals (P,3) towards the viewer."""
        column, row = (uv * (SIDE - 1) + 0.5).astype(np.int64).clip(0, SIDE - 1).T
        albedo = self.layers[material, row, column]
        facing = normal @ self.light
        diffuse = ((facing + 0.35) / 1.35).clip(0)
        half = self.light - np.array([0, 0, 1], np.float32)
        shine = (normal @ (half / np.linalg.norm(half))).clip(0)
        gloss = _SPECULAR[material] * shine ** _SHARPNESS[material] * 255
        colours: NDArray[np.float32] = albedo * (self.ambient + (1.05 - self.ambient) * diffuse)[:, None] + gloss[:, None]
        return colours


def random_paint(generator: np.random.Generator, *, iris_share: float) -> Paint:
    """Random colours, textures, light and background; `iris_share`: the iris's radius over the eyeball's."""
    skin = _mix(generator, _SKINS) * (1 + generator.uniform(-0.04, 0.04, 3))
    dark = generator.choice([0, 1, 2]) if skin.mean() < 140 else generator.integers(len(_HAIRS))
    hair = _HAIRS[dark] * generator.uniform(0.85, 1.2)
    grain = _noise(generator, 3) * 0.04 + _noise(generator, 6) * 0.025 + _noise(generator, 8) * 0.02
    skin_layer = skin * (1 + grain[..., None])
    turn, lift = np.deg2rad(generator.uniform(-60, 60)), np.deg2rad(generator.uniform(5, 50))
    light = np.array([np.sin(turn) * np.cos(lift), -np.sin(lift), -np.cos(turn) * np.cos(lift)])
    layers = [
        _face(generator, skin_layer, skin, hair), skin_layer, _hair(generator, hair), _eye(generator, iris_share),
        _teeth(generator), np.broadcast_to([92.0, 32, 32], (SIDE, SIDE, 3)) * (1 + grain[..., None]),
        (generator.uniform(30, 200) + generator.uniform(-35, 35, 3)) * (1 + 2 * grain[..., None]),
    ]  # fmt: skip
    return Paint(
        np.stack(layers).clip(0, 255).astype(np.float32),
        _background(generator),
        light.astype(np.float32),
        float(generator.uniform(0.35, 0.6)),
    )


def _mix(generator: np.random.Generator, colours: Floats) -> Floats:
    """A colour somewhere along the row of `colours`."""
    place = generator.uniform(0, len(colours) - 1)
    low = int(place)
    mixed: Floats = colours[low] + (place - low) * (colours[min(low + 1, len(colours) - 1)] - colours[low])
    return mixed


def _noise(generator: np.random.Generator, octave: int, *, stretch: int = 1) -> Floats:
    """Smooth noise (256,256) of about unit spread, with 2**octave cells across and `stretch` times fewer down."""
    cells = (max(2, 2**octave // stretch), 2**octave)
    values = generator.normal(size=cells).astype(np.float32)
    return np.asarray(Image.fromarray(values).resize((SIDE, SIDE), Image.Resampling.BICUBIC), float)


def _background(generator: np.random.Generator) -> NDArray[np.uint8]:
    """Two colours, one fading into the other, with soft blotches."""
    first, second = generator.uniform(40, 220, (2, 1)) + generator.uniform(-30, 30, (2, 3))
    angle = generator.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:64, 0:64] / 63 - 0.5
    share = (np.cos(angle) * x + np.sin(angle) * y + 0.5).clip(0, 1)[..., None]
    blotches = _noise(generator, 2)[:: SIDE // 64, :: SIDE // 64, None] * generator.uniform(0, 18)
    colours: NDArray[np.uint8] = (first + share * (second - first) + blotches).clip(0, 255).round().astype(np.uint8)
    return colours


class _Canvas:
    """Soft shapes in the texture of the face, given by vertices of the mesh; widths and blurs are in 512ths of its side."""

    def __init__(self) -> None:
        self.places = topology()[1] * (SIDE - 1)

    def points(self, vertices: tuple[int, ...]) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in self.places[list(vertices)]]

    def polygon(self, vertices: tuple[int, ...], blur: float) -> Floats:
        return self._soft(lambda draw: draw.polygon(self.points(vertices), fill=255), blur)

    def line(self, vertices: tuple[int, ...], width: int, blur: float) -> Floats:
        pixels = round(width * SIDE / 512)
        return self._soft(lambda draw: draw.line(self.points(vertices), fill=255, width=pixels, joint="curve"), blur)

    def spot(self, vertices: tuple[int, ...], width: float, height: float) -> Floats:
        """A Gaussian around the vertices' mean."""
        x, y = self.places[list(vertices)].mean(0)
        steps, width, height = np.arange(SIDE), width * SIDE / 512, height * SIDE / 512
        soft: Floats = np.outer(np.exp(-(((steps - y) / height) ** 2) / 2), np.exp(-(((steps - x) / width) ** 2) / 2))
        return soft

    @staticmethod
    def _soft(draw: Callable[[ImageDraw.ImageDraw], None], blur: float) -> Floats:
        mask = Image.new("L", (SIDE, SIDE))
        draw(ImageDraw.Draw(mask))
        return np.asarray(mask.filter(ImageFilter.GaussianBlur(blur * SIDE / 512)), float) / 255


def _face(generator: np.random.Generator, base: Floats, skin: Floats, hair: Floats) -> Floats:
    canvas, layer = _Canvas(), base.copy()

    def blend(mask: Floats, colour: Floats, strength: float) -> None:
        rows, columns = (np.flatnonzero(mask.max(axis) > 1e-3) for axis in (1, 0))
        if len(rows):
            window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            layer[window] += (mask[window] * strength)[..., None] * (colour - layer[window])

    red, shadow = skin * [1.0, 0.72, 0.7], skin * [0.55, 0.45, 0.42]
    for cheek in ((50, 205), (280, 425)):
        blend(canvas.spot(cheek, 38, 30), red, generator.uniform(0.1, 0.5))
    blend(canvas.spot((1, 4), 18, 14), red, generator.uniform(0.1, 0.4))
    for ring in EYE_RINGS:
        blend(canvas.spot(ring, 40, 22), shadow, generator.uniform(0.2, 0.45))
    for line in _LINES:
        blend(canvas.line(line, 3, 3.5), shadow, generator.uniform(0.1, 0.6))
    blend(canvas.line((2, 164, 0), 4, 3), shadow, 0.2)
    blend(canvas.line((182, 18, 406), 5, 4), shadow, 0.4)
    for side in ((168, 122, 196, 236, 198, 129), (168, 351, 419, 456, 420, 358)):
        blend(canvas.line(side, 6, 6), shadow, 0.3)
    for wing, hole in _NOSTRILS:
        blend(canvas.line(wing, 4, 2.5), shadow, 0.7)
        blend(canvas.spot((hole,), 7, 4), skin * 0.2, 0.85)
    if generator.random() < 0.4:
        beard = canvas.polygon((58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 410, 164, 186), 14)
        blend(beard * (0.8 + 0.2 * _noise(generator, 8)).clip(0, 1), hair * 0.7 + skin * 0.15, generator.uniform(0.1, 0.6))
    if generator.random() < 0.3:
        freckles = (_noise(generator, 6) > 1.5) * (canvas.spot((50, 1, 280), 110, 45))
        blend(freckles, skin * [0.72, 0.6, 0.5], 0.5)
    lips = skin * [0.86, 0.55, 0.56] * generator.uniform(0.85, 1.05) + generator.uniform(0, 30) * np.array([1, 0, 0.2])
    blend(canvas.polygon((*LIPS[:11], *reversed(LIPS[11:20])), 1.6), lips, 0.9)
    blend(canvas.line((*INNER_LIPS, INNER_LIPS[0]), 3, 1.2), lips * 0.35, 0.75)
    _eyes(generator, canvas, blend, skin, hair)
    return layer


def _eyes(generator: np.random.Generator, canvas: _Canvas, blend: Blend, skin: Floats, hair: Floats) -> None:
    """Brows, lashes and lids."""
    ends = ((33, 133), (263, 362))
    lashes, below, fold = generator.uniform(0.6, 0.95), generator.uniform(0.1, 0.5), generator.uniform(0.15, 0.45)
    strength, bristle = generator.uniform(0.65, 0.95), _noise(generator, 8, stretch=3)
    colour = hair * 0.75 if hair.mean() < 130 else hair * 0.6 + skin * 0.1
    for (outer, inner), upper, lower, (top, bottom) in zip(ends, UPPER_LIDS, LOWER_LIDS, _BROW_ROWS, strict=True):
        blend(canvas.line((outer, *upper, inner), 4, 1.0), skin * 0.12, lashes)
        blend(canvas.line((outer, *lower, inner), 3, 1.2), skin * 0.3, below)
        crease = (247, 30, 29, 27, 28, 56) if outer == 33 else (467, 260, 259, 257, 258, 286)
        blend(canvas.line(crease, 3, 2.0), skin * 0.45, fold)
        brow = canvas.polygon((*top, *reversed(bottom)), 2.2)
        blend((brow * (1 + 0.25 * bristle)).clip(0, 1), colour, strength)


def _hair(generator: np.random.Generator, colour: Floats) -> Floats:
    """Strands along v."""
    strands = sum(_noise(generator, octave, stretch=8) * weight for octave, weight in ((4, 0.1), (6, 0.14), (8, 0.14)))
    layer: Floats = colour * (1 + np.asarray(strands))[..., None].clip(0.3)
    return layer


def _eye(generator: np.random.Generator, iris_share: float) -> Floats:
    """The front half of the eyeball, seen along its axis: u, v = (1 + x, 1 + y) / 2 with x, y in radii of the eyeball."""
    y, x = (np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1) * 2 - 1) / iris_share
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    iris = _IRISES[generator.integers(len(_IRISES))] * generator.uniform(0.8, 1.2)
    rays = 1 + 0.2 * np.cos(angle[..., None] * generator.integers(9, 40, 5) + generator.uniform(0, 6, 5)).mean(-1)
    layer: Floats = np.broadcast_to([232.0, 226, 222], (SIDE, SIDE, 3)) * (1 - 0.06 * (radius - 1).clip(0))[..., None]

    def disc(limit: float, soft: float) -> Floats:
        share: Floats = ((limit - radius) / soft + 0.5).clip(0, 1)[..., None]
        return share

    layer = layer + disc(1.0, 0.12) * (iris * 0.45 - layer)
    layer = layer + disc(0.85, 0.2) * (iris * rays[..., None] * (0.8 + 0.5 * radius[..., None]) - layer)
    layer = layer + disc(generator.uniform(0.36, 0.5), 0.1) * (np.array([12.0, 10, 10]) - layer)
    return layer


def _teeth(generator: np.random.Generator) -> Floats:
    """Eight teeth along u."""
    u = np.linspace(0, 8, SIDE) % 1
    gaps = 1 - 0.35 * np.exp(-((np.minimum(u, 1 - u) / 0.06) ** 2))
    colour = np.array([236.0, 228, 212]) * generator.uniform(0.88, 1.0)
    return np.broadcast_to(colour * gaps[None, :, None], (SIDE, SIDE, 3))
