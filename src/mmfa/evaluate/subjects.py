"""What is evaluated: one of our models, or copying the source. Clips of other models are `mmfa.evaluate.predictions`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import torch

from ..device import Precision, pick_precision
from ..engine.torch import TorchEngine
from ..errors import FaceError, ModelError
from ..media.image import Array
from ..portrait import AnyKeypointModel, KeypointModel
from ..registry import kind_of
from ..session import Priors, Session
from ..weights import from_pretrained
from .cache import animating_state
from .protocol import Task

DEVICE = "cpu"
"""Where models are evaluated, so that figures don't depend on who has a GPU."""


@dataclass(frozen=True)
class Renderer:
    """What computes a model's frames: the same weights give other frames on another one. engine: the program."""

    engine: str
    device: str
    precision: str


class Subject(Protocol):
    """Something that generates clips. It travels to other processes, so it holds no network."""

    @property
    def name(self) -> str:
        """How tables call it."""

    @property
    def kind(self) -> str:
        """model, predictions or copy-source."""

    @property
    def renderer(self) -> Renderer | None:
        """What computes the frames; None when nothing does here."""

    def sha256(self, tasks: Sequence[Task]) -> str | None:
        """Of the weights, or of all the frames that were given; None when there is nothing to tell apart."""

    def check(self, tasks: Sequence[Task]) -> None:
        """Raise MmfaError, before long work, when it can't generate `tasks`."""

    def key(self, task: Task) -> list[str]:
        """All that the generated frames depend on, besides the task's own files, as hashes."""

    def frames(self, task: Task, source: Array, driving: Iterable[Array]) -> Iterator[Array]:
        """The generated frames (S,S,3) uint8 of `task.generated`, in order.

        source: the first frame of `task.source`. driving: every frame of `task.driving`, to be read once.
        """

    def remarks(self, tasks: Sequence[Task]) -> list[str]:
        """What a reader of the figures has to know."""


@dataclass(frozen=True)
class CopySource:
    """Every output is the source: what a model that animates nothing scores."""

    name: str = "copy-source"
    kind: str = "copy-source"
    renderer: Renderer | None = None

    def sha256(self, tasks: Sequence[Task]) -> str | None:  # noqa: ARG002
        """None: there are no weights."""
        return None

    def check(self, tasks: Sequence[Task]) -> None:
        """Always possible."""

    def key(self, task: Task) -> list[str]:  # noqa: ARG002
        """The name: the source alone decides."""
        return [self.name]

    def frames(self, task: Task, source: Array, driving: Iterable[Array]) -> Iterator[Array]:  # noqa: ARG002
        """The source, over and over."""
        for _ in task.generated:
            yield source

    def remarks(self, tasks: Sequence[Task]) -> list[str]:  # noqa: ARG002
        """There is nothing to know."""
        return []


@dataclass(frozen=True)
class Model:
    """A shipped model by name, or one in a folder, driven absolutely (eq. 5), with no crop and nothing pasted back."""

    model: str
    kind: str = "model"

    @property
    def name(self) -> str:
        """The model's folder's own."""
        return _folder(self.model).resolve().name

    @property
    def renderer(self) -> Renderer:
        """The precision is the fastest that this machine has; see `pick_precision`."""
        return Renderer("torch", DEVICE, _precision())

    def sha256(self, tasks: Sequence[Task] = ()) -> str:  # noqa: ARG002
        """Of the file of weights."""
        with (_folder(self.model) / "model.safetensors").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def check(self, tasks: Sequence[Task]) -> None:  # noqa: ARG002
        """Raises ModelError: unknown, damaged, or with weights that are not numbers."""
        network = from_pretrained(self.model)
        if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values() if tensor.is_floating_point()):
            raise ModelError(f"The model {self.model} has weights that are not numbers; its training went wrong.")

    def key(self, task: Task) -> list[str]:  # noqa: ARG002
        """The state of the model, whatever the task."""
        return self.state()

    def state(self) -> list[str]:
        """Of the weights, of the configuration, of the code that animates, and of what computes."""
        config = (_folder(self.model) / "config.json").read_text(encoding="utf-8")
        return [self.sha256(), config, *astuple(self.renderer), animating_state(self.kind_module())]

    def kind_module(self) -> str:
        """Where its kind is defined."""
        return _kind_module(self.model, self.sha256())

    def frames(self, task: Task, source: Array, driving: Iterable[Array]) -> Iterator[Array]:
        """Every frame of the driving clip is tracked, as a user's would be; `task.generated` are rendered."""
        session = self.session()
        try:
            photo = session.photo(source, crop=False)
        except FaceError as error:
            raise FaceError(
                f"No face found in the first frame of {task.source.path}, which is the source; leave the clip out."
            ) from error
        signal = session.track(driving, crop=False).signal
        yield from session.render(photo, signal[torch.tensor(task.generated)], paste_back=False)

    def session(self) -> Session:
        """Loaded once in each process, and again when the file has changed."""
        return Session(self._engine(), _priors())

    def keypoint_model(self) -> AnyKeypointModel:
        """The network itself, for what frames alone don't tell. Raises ModelError for one without keypoints that can be set."""
        model = self._engine().model
        for ability in ("edit", "keypoints"):
            model.card.require(ability)
        assert isinstance(model, KeypointModel)
        return model

    def _engine(self) -> TorchEngine:
        return _engine(self.model, self.sha256(), _precision())

    def remarks(self, tasks: Sequence[Task]) -> list[str]:
        """How it was driven, and that frames were resized."""
        size = from_pretrained(self.model).card.size
        others = sorted({task.driving.size for task in tasks} - {size})
        said = ["Driven absolutely: rotation, scale, translation and expression are the driving frame's own."]
        if others:
            said.append(f"The model's {size} px frames were resized to the clips' {', '.join(map(str, others))} px.")
        return said


# The hash is there for the caches: another file in the same place is another model.
@lru_cache(maxsize=1)
def _kind_module(model: str, sha256: str) -> str:  # noqa: ARG001
    # Of its params: what builds it may be a partial, whose module says nothing.
    return kind_of(from_pretrained(model)).params.__module__


@lru_cache(maxsize=1)
def _engine(model: str, sha256: str, precision: Precision) -> TorchEngine:  # noqa: ARG001
    return TorchEngine(from_pretrained(model), device=DEVICE, precision=precision)


@lru_cache(maxsize=1)
def _priors() -> Priors:
    return Priors.shipped()


def _precision() -> Precision:
    return "bfloat16" if pick_precision("auto", torch.device(DEVICE)) is torch.bfloat16 else "float32"


def _folder(model: str) -> Path:
    return Path(model) if Path(model).is_dir() else Path(str(files("mmfa") / "models" / model))
