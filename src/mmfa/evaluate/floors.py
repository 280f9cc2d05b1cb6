"""The floor of the leakage figures: trials on pictures whose truth is known, in which nothing leaks but the measuring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..geometry import euler_to_matrix, matrix_to_euler, similarity, transform_image, transform_points
from ..media.image import to_uint8
from .extractors import FaceMeasurer
from .heads import Expression
from .synthetic import EXPRESSIONS, Head, State, moved, random_state, render
from .trials import ASKED, DRIVERS, STEPS, Faces, Person, Trial

SHIFTS = ((2, 1), (-1, 2), (-2, -1), (1, -2), (1, 1), (-1, 1), (-1, -1), (1, -1))
"""Pixels by which an untouched picture is moved, right and down, before its face is detected again."""


IN_PLANE = ("roll", "scale", "tx", "ty")
"""What of `ASKED` a picture can be given by moving it."""


def copied(trial: Trial) -> Trial:
    """The trial of a model that shows the source whatever is asked: it leaks nothing and does nothing."""

    def still(like: Faces) -> Faces:
        return trial.reference[torch.zeros(len(like), dtype=torch.long)]

    return replace(
        trial, expression=still(trial.expression), pose=still(trial.pose), full=still(trial.full), path=still(trial.path)
    )


def photographed(person: Person, driver: Person, measurer: FaceMeasurer) -> Trial:
    """The source frame itself for every expression, moved by `SHIFTS`; turned, scaled and shifted in its plane for the poses
    that this can make, all else missed; the driver's frames, moved, as the full reenactment. No path.
    """
    photo = person.faces.image[person.source : person.source + 1]
    shown = driver.faces.image[driver.drivers]
    own = person.seen[torch.tensor([person.source])]
    transforms = [_in_plane(own, name, value) for name, value in ASKED if name in IN_PLANE]
    pixel = 2 / (photo.shape[-1] - 1)
    shifts = similarity(torch.zeros(DRIVERS), torch.ones(DRIVERS), pixel * torch.tensor(SHIFTS, dtype=torch.float32))
    moves = torch.cat([shifts, *transforms])
    moved_photo = transform_image(photo.expand(len(moves), -1, -1, -1), moves)
    pictures = torch.cat([photo, moved_photo, transform_image(shown, shifts)])
    seen = Faces.of_measures(measurer.measure(to_uint8(pictures)))
    missed = Faces.of_points(torch.full((1, 478, 3), math.nan))
    known = Faces.concatenate([seen, missed])
    turned = iter(range(1 + DRIVERS, 1 + len(moves)))
    return Trial(
        person.name,
        reference=seen[:1],
        expression=seen[1 : 1 + DRIVERS],
        pose=known[torch.tensor([next(turned) if name in IN_PLANE else -1 for name, _ in ASKED])],
        full=seen[1 + len(moves) :],
        path=known[torch.full((STEPS + 1,), -1)],
        driving=driver.seen[driver.drivers],
    )


def drawn(seed: int, measurer: FaceMeasurer, *, size: int = 256) -> Trial:
    """A drawn head under exactly what is asked, driven by another drawn head: what a model without any leak would show."""
    generator = np.random.default_rng(seed)
    head, other = Head.random(generator), Head.random(generator)
    own = moved(State(), {name: float(generator.uniform(-8, 8)) for name in ("yaw", "pitch", "roll")})
    free = [name for name in EXPRESSIONS if name != "jaw"]
    states = [random_state(generator, moving=("yaw", "pitch", "roll", "scale", *free)) for _ in range(DRIVERS)]
    states = [moved(state, {"jaw": float(jaw)}) for state, jaw in zip(states, np.linspace(0, 1, DRIVERS), strict=True)]
    motions = [
        own,
        *(replace(own, expression=state.expression) for state in states),
        *(_posed(own, name, value) for name, value in ASKED),
        *states,
        *(replace(own, expression=_between(states, share)) for share in np.linspace(0, 1, STEPS + 1)),
    ]
    outputs = measurer.measure(render(head, state, size).image for state in motions)
    driving = measurer.measure(render(other, state, size).image for state in states)
    return Trial.cut(f"drawn {seed}", Faces.of_measures(outputs), Faces.of_measures(driving))


def _in_plane(own: Faces, name: str, value: float) -> Tensor:
    """The transform (1,2,3) of the picture that gives its face a pose of `ASKED`, about the head's centre."""
    angle, scale, shift = torch.zeros(1), torch.ones(1), torch.zeros(1, 2)
    if name == "roll":
        # A turn of the picture comes after pitch and yaw, roll before: for a head that isn't frontal they differ.
        zero = torch.zeros(1, dtype=torch.float64)
        turn = zero.clone()
        for _ in range(8):
            turn = turn + value - matrix_to_euler(euler_to_matrix(zero, zero, turn) @ own.rotation)[2]
        angle = turn.float()
    elif name == "scale":
        scale = scale * value
    else:
        shift[:, ("tx", "ty").index(name)] = 2 * value
    centre = own.centre.float()
    about = similarity(angle, scale, torch.zeros(1, 2))
    rest = centre - transform_points(centre[:, None], about)[:, 0]
    return similarity(angle, scale, rest + shift)


def _posed(own: State, name: str, value: float) -> State:
    if name == "scale":
        return moved(own, {"scale": own.scale * value})
    if name in ("tx", "ty"):
        axis = ("tx", "ty").index(name)
        return moved(own, {("shift_x", "shift_y")[axis]: own.shift[axis] + 2 * value})
    return moved(own, {name: value})


def _between(states: Sequence[State], share: float) -> Expression:
    """From the expression of the first state to that of the last."""
    first, last = (vars(states[i].expression) for i in (0, -1))
    return Expression(**{name: float((1 - share) * value + share * last[name]) for name, value in first.items()})
