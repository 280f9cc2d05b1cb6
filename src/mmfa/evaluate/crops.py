"""Whole crops from models that draw a part of one: composed as for a user, on the crop that the photo was prepared from."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from ..compose import PersonCanvas
from ..media.crop import CropBox
from ..media.image import Array, to_uint8
from ..portrait import AnyKeypointModel, FaceInput, Rendered
from ..priors.matte import PersonMatte


def composer(model: AnyKeypointModel, face: FaceInput) -> Callable[[Rendered], list[Array]]:
    """What makes crops (S,S,3) uint8 of what the model renders of one face (a batch of one, with its picture)."""
    if not model.card.view:
        return lambda rendered: list(to_uint8(rendered.patch.float()))
    (image,), size = to_uint8(face.image), face.image.shape[-1]
    placed = face.scale[..., None] * face.mesh @ face.rotation.transpose(1, 2) + face.translation[:, None]
    points = (placed[0] + 1) * (size - 1) / 2 + 0.5
    canvas = PersonCanvas(image, _matte().matte(image, points).alpha, CropBox(size / 2, size / 2, size), size=size)

    def composed(rendered: Rendered) -> list[Array]:
        assert rendered.layer is not None
        layer = rendered.layer.to("cpu")
        return [canvas.compose(layer[index]) for index in range(len(layer))]

    return composed


@lru_cache(maxsize=1)
def _matte() -> PersonMatte:
    return PersonMatte()
