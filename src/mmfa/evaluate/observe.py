"""Looking at drawn heads as the pipeline looks at photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..errors import FaceError
from ..faces import PixelFace, face_input, whole_picture
from ..media.image import Array
from ..motion import Motion
from ..portrait import AnyKeypointModel, FaceInput
from ..priors.detector import FaceDetector
from ..priors.landmarks import FaceLandmarker, TrackedFace, detect_single
from .synthetic import Head, Rendered, State, render


@dataclass(frozen=True)
class Observed:
    """N drawings with what was seen in them; only those with a face.

    states, drawings: N each, the truth. points: (N,478,3), found landmarks. face, motion: batches of N.
    canonical: (N,K,3).
    """

    states: list[State]
    drawings: list[Rendered]
    points: Tensor
    face: FaceInput
    motion: Motion
    canonical: Tensor

    def __len__(self) -> int:
        return len(self.states)

    def values(self, name: str) -> Tensor:
        """The true values (N,) of an expression parameter."""
        return torch.tensor([getattr(state.expression, name) for state in self.states])

    @property
    def open_eyes(self) -> Tensor:
        """Where (N,) neither eye is closed by more than 0.3."""
        return torch.maximum(self.values("blink_left"), self.values("blink_right")) <= 0.3

    @property
    def scale(self) -> Tensor:
        """The true sizes (N,1) of the heads."""
        return torch.tensor([drawing.scale for drawing in self.drawings])[:, None]

    @property
    def translation(self) -> Tensor:
        """Where the heads truly are, (N,3), in grid units."""
        return torch.stack([drawing.translation for drawing in self.drawings])

    @property
    def rotation(self) -> Tensor:
        """The true rotations (N,3,3)."""
        return torch.stack([drawing.rotation for drawing in self.drawings])


class Observer:
    """Looks at drawings as the pipeline looks at photos: detector, landmark network, pose prior, the model's motion."""

    def __init__(self, model: AnyKeypointModel) -> None:
        self.model = model.eval()
        self._landmarker, self._detector = FaceLandmarker(), FaceDetector()

    def find(self, image: Array) -> TrackedFace | None:
        """The face of a picture, or None without one."""
        try:
            return detect_single(image, landmarker=self._landmarker, detector=self._detector)
        except FaceError:
            return None

    def face(self, image: Array, found: TrackedFace) -> FaceInput:
        """What the model takes, the whole picture being the crop."""
        return face_input(image, PixelFace.of(found, image), whole_picture(image), size=self.model.card.size)

    @torch.no_grad()
    def look(self, head: Head, states: Sequence[State]) -> Observed:
        """Draw a head in some states and look at it; drawings in which no face is found are left out.

        Raises FaceError when that leaves fewer than two.
        """
        kept, drawings, points, faces = [], [], [], []
        for state in states:
            drawing = render(head, state)
            found = self.find(drawing.image)
            if found is None:
                continue
            kept.append(state)
            drawings.append(drawing)
            points.append(found.points)
            faces.append(self.face(drawing.image, found))
        if len(kept) < 2:
            raise FaceError(f"A face was found in {len(kept)} of {len(states)} drawings of a head: too few to measure.")
        face = FaceInput(*(torch.cat([getattr(one, part.name) for one in faces]) for part in fields(FaceInput)))
        return Observed(kept, drawings, torch.stack(points), face, self.model.signal(face), self.model.canonical(face))

    @torch.no_grad()
    def keypoints(self, face: FaceInput) -> Tensor:
        """Keypoints (B,K,3) in the grid of the picture."""
        return self.model.keypoints(self.model.canonical(face), self.model.signal(face))[0]
