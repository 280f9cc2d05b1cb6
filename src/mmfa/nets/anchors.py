"""The anchored keypoints of `lite`: which mesh vertices they start from, and how wide each one's influence starts."""

from __future__ import annotations

import torch
from torch import Tensor

LIPS = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 81, 13, 311, 308, 402, 14, 178)
EYES = (33, 160, 158, 159, 133, 153, 145, 144, 263, 387, 385, 386, 362, 380, 374, 373, 468, 473)
BROWS = (70, 105, 107, 300, 334, 336)
NOSE = (1, 5, 168, 98, 327)
OUTLINE = (10, 284, 454, 397, 152, 172, 234, 54)
CHEEKS = (50, 280, 205, 425, 151)
VERTICES = LIPS + EYES + BROWS + NOSE + OUTLINE + CHEEKS
FINE = len(LIPS) + len(EYES)
"""The first FINE keypoints sit on lips, lids and irises and move on their own."""
_EYE = len(LIPS)
MOUTH = tuple(range(12, 20))
"""Indices of the keypoints around the inner lips, in order: the outline of what an open mouth shows."""
UPPER_LIDS, LOWER_LIDS = (
    tuple(tuple(_EYE + place for place in eye) for eye in lids)
    for lids in (((0, 1, 3, 2, 4), (12, 10, 11, 9, 8)), ((0, 7, 6, 5, 4), (12, 13, 14, 15, 8)))
)
"""Indices of the keypoints along each eye's lids, both corners included, from left to right in the image."""
LIDS = tuple((*upper, *lower[-2:0:-1]) for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True))
"""Indices of the keypoints around each eye, in order."""
BROW_SIDES = tuple(tuple(len(LIPS + EYES) + side + step for step in range(3)) for side in (0, 3))
"""Indices of the keypoints on each brow."""
IRISES = (_EYE + 16, _EYE + 17)
INNER_EYES = (*(index for lids in (*UPPER_LIDS, *LOWER_LIDS) for index in lids[1:-1]), *IRISES)
"""Indices of the keypoints of the eyes without their corners."""
SKULL = tuple(range(len(LIPS + EYES + BROWS), len(LIPS + EYES + BROWS + NOSE)))
"""Indices of the keypoints on the nose, which move with the skull and its upper teeth, whatever the lips do."""
OVAL = tuple(range(SKULL[-1] + 1, SKULL[-1] + 1 + len(OUTLINE)))
"""Indices of the keypoints around the face, in order."""
HAIR = ((0.0, -1.45, 0.45), (-0.75, -1.15, 0.55), (0.75, -1.15, 0.55))
"""Keypoints that no landmark anchors: the hair above the mesh, in the template's frame."""
COUNT = len(VERTICES) + len(HAIR)
TWINS = (
    *(*range(6, -1, -1), *range(11, 6, -1), *range(16, 11, -1), 19, 18, 17),  # lips
    *(*range(28, 36), *range(20, 28), 37, 36),  # eyes
    *(41, 42, 43, 38, 39, 40),  # brows
    *(44, 45, 46, 48, 47),  # nose
    *(49, *range(56, 49, -1)),  # outline
    *(58, 57, 60, 59, 61),  # cheeks
    *(62, 64, 63),  # hair
)
"""For each keypoint the index of the one that is in its place in the mirror."""


def anchor_points(mean_mesh: Tensor) -> Tensor:
    """Anchors (COUNT,3) of the canonical keypoints from the mean mesh (478,3)."""
    return torch.cat([mean_mesh[list(VERTICES)], mean_mesh.new_tensor(HAIR)])


def anchor_log_widths() -> Tensor:
    """Log of each keypoint's width of influence (COUNT,), in units of the canonical face."""
    widths = torch.full((COUNT,), 0.24)
    widths[:FINE] = 0.07
    widths[len(VERTICES) :] = 0.45
    return widths.log()
