"""Which of the 478 landmarks are what, and two simple measures on them.

"Left" and "right" below are never used; the first of a pair is the one on the image's left.
"""

from __future__ import annotations

from torch import Tensor

LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
)  # fmt: skip
EYES = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173,
    263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398,
)  # fmt: skip
IRISES = tuple(range(468, 478))
BROWS = (
    46, 53, 52, 65, 55, 70, 63, 105, 66, 107,
    276, 283, 282, 295, 285, 300, 293, 334, 296, 336,
)  # fmt: skip
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
NOSE = (168, 6, 197, 195, 5, 4, 1)

# The 145 points of the landmark loss, as three groups that carry different weights.
LOSS_LIPS = LIPS
LOSS_EYES = EYES + IRISES
LOSS_REST = FACE_OVAL + BROWS + NOSE
LOSS_GROUPS = (LOSS_LIPS, LOSS_EYES, LOSS_REST)
LOSS_POINTS = LOSS_LIPS + LOSS_EYES + LOSS_REST


def mouth_opening(points: Tensor) -> Tensor:
    """Gap between the inner lips over the distance of the outer eye corners;
    points (..., 478, 3) -> (...).
    """
    return _distance(points, 13, 14) / _distance(points, 33, 263)


def eye_opening(points: Tensor) -> Tensor:
    """Mean over both eyes of lid gap over eye width; points (..., 478, 3) -> (...)."""
    first = _distance(points, 159, 145) / _distance(points, 33, 133)
    second = _distance(points, 386, 374) / _distance(points, 362, 263)
    return (first + second) / 2


def _distance(points: Tensor, a: int, b: int) -> Tensor:
    distance: Tensor = (points[..., a, :] - points[..., b, :]).norm(dim=-1)
    return distance
