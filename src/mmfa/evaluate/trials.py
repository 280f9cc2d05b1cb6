"""Trials for the leakage figures: one source under motions that differ in one thing, and what the face mesh sees of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..edit import ATTRIBUTES, Edit, take
from ..errors import FaceError, MediaError
from ..faces import PixelFace, face_input, whole_picture
from ..geometry import geodesic_angle, project_to_rotation
from ..media.image import Array
from ..motion import Motion, blend
from ..nets.anchors import VERTICES
from ..portrait import AnyKeypointModel, FaceInput
from ..priors.groups import mouth_opening
from ..priors.pose import rigid_template
from ..priors.roi import to_grid
from .crops import composer
from .extractors import REFERENCE_SIZE, FaceMeasurer, FaceMeasures

P = TypeVar("P")

SLIDERS: dict[str, tuple[float, ...]] = {
    "yaw": (-25, -12.5, 12.5, 25), "pitch": (-15, -7.5, 7.5, 15), "roll": (-25, -12.5, 12.5, 25),
    "scale": (0.8, 0.9, 1.12, 1.25), "tx": (-0.15, -0.075, 0.075, 0.15), "ty": (-0.15, -0.075, 0.075, 0.15),
}  # fmt: skip
"""What is asked of each attribute of `mmfa.edit.Edit`, one at a time: degrees, a factor, fractions of the crop's side."""
ASKED = tuple((name, value) for name, values in SLIDERS.items() for value in values)
DRIVERS = 8
STEPS = 8
"""Steps from one expression to another in `interp_smoothness`."""
EYE_CORNERS = (33, 263)
_RIGID = (33, 133, 263, 362, 168, 5, 1, 10, 54, 284, 234, 454)
"""Vertices that carry a keypoint and that no expression moves: eye corners, nose, temples."""


@dataclass(frozen=True)
class Faces:
    """T faces, NaN where one was missed, or of vertices that a model has no keypoint for.

    points: (T,478,3) in grid coordinates. shape: (T,478,2), the same in the pose-normalised, frontal frame, in units of the
    template. rotation: (T,3,3). scale: (T,). centre: (T,2), grid units. eyes: (T,), inter-ocular distance in 3D, which no
    turn changes, grid units. mouth: (T,), mouth opening.
    """

    points: Tensor
    shape: Tensor
    rotation: Tensor
    scale: Tensor
    centre: Tensor
    eyes: Tensor
    mouth: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: slice | Tensor) -> Faces:
        return Faces(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def concatenate(parts: Sequence[Faces]) -> Faces:
        """The faces of several clips, one after the other."""
        return Faces(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Faces)))

    @staticmethod
    def of_points(points: Tensor, *, weights: Tensor | None = None) -> Faces:
        """From landmarks (T,478,3) in grid coordinates. `weights` (468,), sum 1: which vertices the pose is fitted to, by
        default those of `mmfa.priors.pose`.
        """
        vertices, usual = (tensor.double() for tensor in rigid_template())
        weights = usual if weights is None else weights.double()
        used = weights > 0
        anchor = weights @ vertices  # the template's origin stays the origin, as in `head_pose`
        vertices = vertices - anchor
        points = points.double()
        fitted = points[:, :468][:, used]
        found = ~fitted.isnan().flatten(1).any(1)
        centre = torch.einsum("n,bni->bi", weights[used], fitted)
        covariance = torch.einsum("n,bni,nj->bij", weights[used], fitted - centre[:, None], vertices[used])
        rotation = torch.full_like(covariance, math.nan)
        rotation[found] = project_to_rotation(covariance[found])
        size = torch.einsum("n,ni->", weights, vertices.square())
        scale = (rotation * covariance).sum((1, 2)) / size
        centre = centre - scale[:, None] * (rotation @ anchor)
        shape = ((points - centre[:, None]) @ rotation / scale[:, None, None])[..., :2]
        eyes = (points[:, EYE_CORNERS[0]] - points[:, EYE_CORNERS[1]]).norm(dim=1)
        return Faces(points, shape, rotation, scale, centre[:, :2], eyes, mouth_opening(points))

    @staticmethod
    def of_measures(measures: FaceMeasures) -> Faces:
        """From what was measured in frames."""
        return Faces.of_points(to_grid(measures.points, REFERENCE_SIZE, REFERENCE_SIZE))

    @staticmethod
    def of_keypoints(keypoints: Tensor) -> Faces:
        """From anchored keypoints (T,K,3) in the image: keypoint k sits on mesh vertex VERTICES[k]."""
        mesh = keypoints.new_full((len(keypoints), 478, 3), math.nan)
        mesh[:, list(VERTICES)] = keypoints[:, : len(VERTICES)]
        weights = torch.zeros(468)
        weights[list(_RIGID)] = 1 / len(_RIGID)
        return Faces.of_points(mesh, weights=weights)


@dataclass(frozen=True)
class Person:
    """A source and its drivers: `faces`, T frames of one person that show a face; `seen`, what was measured in them.

    source: index of the frame that is animated. drivers: indices of `DRIVERS` frames, evenly from the shut to the open mouth.
    """

    name: str
    faces: FaceInput
    seen: Faces
    source: int
    drivers: Tensor

    @staticmethod
    def of(name: str, frames: Iterable[Array], measurer: FaceMeasurer, *, size: int) -> Person:
        """From square crops (S,S,3) uint8 of one person. Frames without a face are left out.

        The source is the most frontal frame of the half with the mouth more shut. Raises FaceError when less than two frames
        show a face, MediaError for frames that can't be measured.
        """
        pictures = list(frames)
        measures = measurer.measure(pictures)
        kept = measures.found.nonzero()[:, 0].tolist()
        if len(kept) < 2:
            raise FaceError(f"{name} shows a face in {len(kept)} of {len(pictures)} frames; at least two are needed.")
        inputs = []
        for index in kept:
            side = pictures[index].shape[0]
            face = PixelFace(measures.points[index] * (side / REFERENCE_SIZE))
            inputs.append(face_input(pictures[index], face, whole_picture(pictures[index]), size=size))
        faces = FaceInput(*(torch.cat([getattr(one, field.name) for one in inputs]) for field in fields(FaceInput)))
        seen = Faces.of_measures(measures[torch.tensor(kept)])
        order = seen.mouth.argsort()
        shut = order[: (len(order) + 1) // 2]
        turned = geodesic_angle(seen.rotation[shut], torch.eye(3).to(seen.rotation).expand(len(shut), 3, 3))
        places = torch.linspace(0, len(order) - 1, DRIVERS).round().long()
        return Person(name, faces, seen, int(shut[turned.argmin()]), order[places])


@dataclass(frozen=True)
class Trial:
    """One source under everything that is asked of it.

    Faces of the outputs, each a clip. reference: its own motion, one. expression: the expression of the drivers, all else its
    own. pose: the own motion, edited as `ASKED`; all NaN where it can't be. full: all attributes of the drivers. path: from the
    drivers' first expression to the last. driving: the drivers themselves.
    """

    name: str
    reference: Faces
    expression: Faces
    pose: Faces
    full: Faces
    path: Faces
    driving: Faces

    @staticmethod
    def cut(name: str, faces: Faces, driving: Faces) -> Trial:
        """From the outputs of the motions of `plan`, in its order."""
        ends = np.cumsum([1, DRIVERS, len(ASKED), DRIVERS, STEPS + 1])
        if len(faces) != ends[-1]:
            raise ValueError(f"need {ends[-1]} faces, got {len(faces)}")
        reference, expression, pose, full, path = (faces[a:b] for a, b in zip((0, *ends[:-1]), ends, strict=True))
        return Trial(name, reference, expression, pose, full, path, driving)


def plan(own: Motion, driving: Motion) -> Motion:
    """All motions of a trial, one after the other, of the source's own motion, one, and `DRIVERS` driving ones."""
    swapped = take(own, driving, ["expression"])
    asked: list[dict[str, Any]] = [{name: value} for name, value in ASKED]
    edited = [Edit(**values).apply(own) for values in asked]
    path = blend(swapped[0].expand(STEPS + 1), swapped[-1], torch.linspace(0, 1, STEPS + 1))
    return Motion.concatenate([own, swapped, *edited, take(own, driving, ATTRIBUTES), path])


@dataclass(frozen=True)
class Outputs:
    """What one person's trial of a model gave, in grid coordinates: all that the leakage figures are taken from.

    seen: (N,478,3), of the outputs, NaN where no face was found. keypoints: (N,K,3), of the motions; (0,K,3) where they are
    not anchored to the mesh. driving: (`DRIVERS`,478,3). canonical: x_c (T,K,3) of the person's frames.
    """

    seen: Tensor
    keypoints: Tensor
    driving: Tensor
    canonical: Tensor


@dataclass(frozen=True)
class Trials:
    """Trials of one model, on its pictures and on its keypoints (None where they are free); x_c (T,K,3) of each person.

    frames, lost: how many were rendered, and in how many no face was found.
    """

    rendered: list[Trial]
    keypoints: list[Trial] | None
    canonical: list[Tensor]
    frames: int
    lost: int

    @staticmethod
    def of(outputs: Mapping[str, Outputs]) -> Trials:
        """Of all persons, by name."""
        rendered, placed, lost = [], [], 0
        for name, given in outputs.items():
            driving = Faces.of_points(given.driving)
            rendered.append(Trial.cut(name, Faces.of_points(given.seen), driving))
            if len(given.keypoints):
                placed.append(Trial.cut(name, Faces.of_keypoints(given.keypoints), driving))
            lost += int(given.seen.isnan().flatten(1).all(1).sum())
        canonical, frames = [given.canonical for given in outputs.values()], sum(len(given.seen) for given in outputs.values())
        return Trials(rendered, placed or None, canonical, frames, lost)


@torch.no_grad()
def outputs_of(model: AnyKeypointModel, person: Person, driver: Person, measurer: FaceMeasurer, *, batch: int = 4) -> Outputs:
    """Render everything that is asked of one person, in parts of `batch`, and look at it."""
    face = person.faces[person.source : person.source + 1]
    prepared, canonical = model.prepare(face), model.canonical(face)
    motion = plan(model.signal(face), model.signal(driver.faces[driver.drivers]))
    parts = [motion[start : start + batch] for start in range(0, len(motion), batch)]
    composed = composer(model, face)
    images = (image for part in parts for image in composed(model.render(prepared, part)))
    seen = to_grid(measurer.measure(images).points, REFERENCE_SIZE, REFERENCE_SIZE)
    points, _ = model.keypoints(canonical.expand(len(motion), -1, -1), motion)
    anchored = model.card.supports("anchored")
    return Outputs(seen, points if anchored else points[:0], driver.seen.points[driver.drivers], model.canonical(person.faces))


def run(
    model: AnyKeypointModel,
    people: Iterable[Person],
    measurer: FaceMeasurer,
    *,
    batch: int = 4,
    done: Callable[[str], None] | None = None,
) -> Trials:
    """Each person's source, driven by the next person in the order of their names, the last by the first.

    Raises MediaError for less than two people. `done` is called with the name after each.
    """
    outputs = {}
    for person, driver in in_circle(sorted(people, key=lambda person: person.name)):
        outputs[person.name] = outputs_of(model, person, driver, measurer, batch=batch)
        if done is not None:
            done(person.name)
    return Trials.of(outputs)


def in_circle(people: Sequence[P]) -> list[tuple[P, P]]:
    """Each with the next one, the last with the first. Raises MediaError for less than two."""
    if len(people) < 2:
        raise MediaError(f"Leakage is measured on two people or more, not on {len(people)}.")
    return list(zip(people, [*people[1:], people[0]], strict=True))
