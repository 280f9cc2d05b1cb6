"""The leakage of a model on the persons of a data set, person by person, kept like all other measures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache

import numpy as np
from torch import Tensor

from ..errors import FaceError
from ..media.image import Array
from .cache import Cache, key_of, leaking_state, measuring_state
from .extractors import LandmarkMeasurer
from .protocol import Clip
from .reading import Reading
from .subjects import Model
from .trials import Outputs, Person, Trials, in_circle, outputs_of

FRAMES = 24
"""Frames of each person, from which the source and the drivers are taken."""


@dataclass(frozen=True)
class Sitter:
    """One person, in all clips of the data set that are measured."""

    name: str
    clips: tuple[Clip, ...]

    def frames(self, count: int = FRAMES) -> Iterator[Array]:
        """About `count` frames (S,S,3) uint8, evenly from the clips played one after the other."""
        total = sum(clip.frames for clip in self.clips)
        places = set(np.linspace(0, total - 1, count).round().astype(int).tolist())
        every = (frame for clip in self.clips for frame in clip.read())
        return (frame for place, frame in enumerate(every) if place in places)


@dataclass(frozen=True)
class LeakageJob:
    """Everything that is asked of one person by one model, driven by another person."""

    subject: Model
    sitter: Sitter
    driver: Sitter
    clip = None
    wanted = ()
    length = 2 * FRAMES

    @cached_property
    def key(self) -> str:
        """All that the measures depend on, as one name."""
        hashes = [[clip.sha256 for clip in one.clips] for one in (self.sitter, self.driver)]
        return key_of(
            "leakage", FRAMES, *hashes, *self.subject.state(), leaking_state(self.subject.kind_module()), *measuring_state()
        )

    def run(self, reading: Reading | None, cache: Cache) -> dict[str, Tensor]:  # noqa: ARG002
        """Pose the person, render and look. Raises FaceError for a person without a face."""
        model = self.subject.keypoint_model()
        person, driver = (_person(one, model.card.size) for one in (self.sitter, self.driver))
        return vars(outputs_of(model, person, driver, _measurer()))


def sitters_of(clips: Iterable[Clip]) -> list[Sitter]:
    """The persons of some clips, by name."""
    own: dict[str, list[Clip]] = {}
    for clip in sorted(clips, key=lambda clip: clip.name):
        own.setdefault(clip.person, []).append(clip)
    return [Sitter(name, tuple(own[name])) for name in sorted(own)]


def jobs_of(subject: Model, clips: Iterable[Clip]) -> list[LeakageJob]:
    """One job for each person. Raises MediaError for less than two."""
    return [LeakageJob(subject, sitter, driver) for sitter, driver in in_circle(sitters_of(clips))]


def load_trials(jobs: Sequence[LeakageJob], cache: Cache) -> Trials:
    """The trials of jobs that were measured."""
    names = [field.name for field in fields(Outputs)]
    loaded = {job.sitter.name: cache.load(job.key) for job in jobs}
    return Trials.of({name: Outputs(*(tensors[field] for field in names)) for name, tensors in loaded.items()})


@lru_cache(maxsize=2)
def _person(sitter: Sitter, size: int) -> Person:
    """Each person comes twice in a row, as a driver and as a source."""
    try:
        return Person.of(sitter.name, sitter.frames(), _measurer(), size=size)
    except FaceError as error:
        clips = ", ".join(str(clip.path) for clip in sitter.clips)
        raise FaceError(f"{error} Leave the person's clips out, or --leakage: {clips}.") from error


@lru_cache(maxsize=1)
def _measurer() -> LandmarkMeasurer:
    return LandmarkMeasurer()
