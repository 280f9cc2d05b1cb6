"""Stage 0 of landmark-fed models: the motion networks against landmark meshes alone, with no image.

What a mesh shows is taken as the neutral shape of a person plus an expression. x_c is what one frame tells of the shape
(`fit_identity`, in closed form); the other networks learn to place the keypoints of that person's frames, and those of a
person whose expression is another's.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..expressions import NAMES, measures
from ..models.lite.model import LiteMMFA
from ..motion import Motion
from ..nets.anchors import VERTICES
from ..nets.canonical import MeshCanonicalDetector
from ..portrait import FaceInput
from . import losses
from .data import ClipDataset, even_frames, face_of, mirror

IDENTITY_DIRECTIONS = 4
"""How many directions x_c keeps. On unseen people a fifth differs hardly more between them than within one
(research/leakage.md)."""
FRAMES = 64
"""Frames of each person, evenly from all clips, from which shapes and their spread are estimated."""
PASSING = [NAMES.index(name) for name in ("jaw_open", "gaze_x", "gaze_y")]
"""Measures in which people don't differ but for what they do: their mean is no part of anybody's shape."""
EYE_CORNERS = (VERTICES.index(33), VERTICES.index(263))
"""The keypoints on the outer corners of the eyes."""
_COMPONENTS, _SHRINKAGE, _RIDGE = 150, 0.05, 1e-8
_MADE_UP = 0.5  # share of the people of a step that are drawn from the spread of shapes
_NOISE = 0.01  # of the mesh, in units of the template
_WEIGHTS = {"keypoint": 10.0, "swap": 40.0, "size": 1.0, "scale": 1.0, "free": 1.0}


@dataclass(frozen=True)
class Shapes:
    """Neutral pose-normalised meshes (P,478,3) of P people, and samples of their frames (T,478,3), with whose (T,) they are."""

    neutral: Tensor
    meshes: Tensor
    person: Tensor

    @staticmethod
    def of(data: ClipDataset) -> Shapes:
        """People in the order of `ClipDataset.people`. The means of the `PASSING` measures are regressed out of the shapes."""
        parts = [
            torch.cat([clip.meshes(frames) for clip, frames in even_frames(clips, FRAMES)]) for clips in data.people.values()
        ]
        meshes = torch.cat(parts)
        person = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part) for part in parts]))
        means = torch.stack([part.mean(0) for part in parts])
        seen = measures(meshes).stack()[:, PASSING]
        own = torch.stack([part.mean(0) for part in seen.split([len(part) for part in parts])])
        change = (seen - own[person]).double()
        effect = torch.linalg.solve(
            change.T @ change + _RIDGE * torch.eye(len(PASSING)).double(), change.T @ (meshes - means[person]).flatten(1).double()
        )
        passing = ((own - own.mean(0)).double() @ effect).float().unflatten(1, (-1, 3))
        return Shapes(means - passing, meshes, person)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Shapes (count,478,3) of people that don't exist, from the normal distribution of those that do."""
        mean = self.neutral.mean(0)
        mix = torch.randn(count, len(self.neutral), generator=generator) / len(self.neutral) ** 0.5
        return mean + torch.einsum("bp,pni->bni", mix, self.neutral - mean)


@dataclass(frozen=True)
class IdentityMap:
    """``shape = mean + write^T read^T (mesh - mean)``: mean (478,3), read (1434,k), write (k,1434)."""

    mean: Tensor
    read: Tensor
    write: Tensor


def fit_identity(shapes: Shapes, *, directions: int = IDENTITY_DIRECTIONS) -> IdentityMap:
    """The expected shape of a person, given one of their meshes, along the directions in which people differ most.

    Discriminant analysis: covariances B between and W within persons, in the 150 largest principal components of W + B and
    counted with their mirror images; W is shrunk by 5 % to its mean variance. The directions have the largest ratios e of B
    to W, and what is read is multiplied by e / (1 + e), the posterior mean under normal distributions.
    """
    means = torch.stack([shapes.meshes[shapes.person == one].mean(0) for one in range(len(shapes.neutral))])
    mean = means.mean(0)
    mean = (mean + mirror(mean)) / 2
    counts = torch.bincount(shapes.person)[shapes.person].sqrt()[:, None, None]
    parts = ((shapes.meshes - means[shapes.person]) / counts, means - means.mean(0))
    within, between = (torch.cat([part, mirror(part)]).flatten(1) / (2 * len(means)) ** 0.5 for part in parts)
    basis = components(torch.cat([within, between]), _COMPONENTS)
    w, b = (part.T @ part for part in ((within @ basis).double(), (between @ basis).double()))
    basis = basis.double()
    ratios, vectors, root = discriminant(w, b, shrinkage=_SHRINKAGE, count=directions)
    read = basis @ torch.linalg.solve_triangular(root.T, vectors, upper=True)
    write = (ratios / (1 + ratios))[:, None] * (basis @ root @ vectors).T
    return IdentityMap(mean, read.float(), write.float())


def discriminant(within: Tensor, between: Tensor, *, shrinkage: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Discriminant analysis of covariances (q,q) within and between persons.

    Returns the `count` largest ratios (k,) of between to within, their directions (q,k) where within is the identity, and the
    lower Cholesky root (q,q) of within that takes them there; within is shrunk to its mean variance first.
    """
    level = within.diagonal().mean()
    within = (1 - shrinkage) * within + (shrinkage * level + _RIDGE) * torch.eye(len(within)).to(within)
    root = torch.linalg.cholesky(within)
    half = torch.linalg.solve_triangular(root, between, upper=False)
    ratios, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(root, half.T, upper=False))
    kept = ratios.argsort(descending=True)[:count]
    return ratios[kept].clamp(min=0), vectors[:, kept], root


def anchor(model: LiteMMFA, data: ClipDataset, *, steps: int, batch: int, seed: int, quiet: bool = False) -> None:
    """Fit the canonical detector in closed form, then train the other motion networks on meshes, in place.

    batch: faces a step, two of each person. Keypoints without a landmark, the hair, stay where the model had them.
    Deterministic in the seed.
    """
    shapes = Shapes.of(data)
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    _fit_detector(model, shapes)
    networks = nn.ModuleList([model.affine, model.expression_encoder, model.expression_decoder]).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(networks.parameters(), 1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=max(2, steps), pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    bar = tqdm(range(steps), desc="anchoring keypoints", unit="step", disable=quiet or None)
    for _ in bar:
        drawn = Draw.of(data, shapes, max(2, batch // 2), generator).to(model.mean_mesh.device)
        values = anchor_losses(model, teacher, drawn)
        loss = torch.stack([_WEIGHTS[name] * value for name, value in values.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(networks.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(keypoint=f"{float(values['keypoint'].detach()):.4f}")


@torch.no_grad()
def _fit_detector(model: LiteMMFA, shapes: Shapes) -> None:
    """Make the canonical detector the map of `fit_identity`; keypoints without a landmark get their mean place."""
    detector, device, anchored = model.canonical_detector, model.mean_mesh.device, len(VERTICES)
    assert isinstance(detector, MeshCanonicalDetector)
    fitted = fit_identity(shapes)
    mean, read, write = fitted.mean.to(device), fitted.read.to(device), fitted.write.to(device)
    free = model.canonical(_still(shapes.neutral.to(device)))[:, anchored:].mean(0)
    vertices = write.unflatten(1, (-1, 3))[:, list(VERTICES)]
    write = torch.cat([vertices, vertices.new_zeros(len(vertices), len(free), 3)], 1)
    bias = read.T @ (model.mean_mesh - mean).flatten()
    detector.set_linear(read, bias, write, torch.cat([mean[list(VERTICES)], free]))


@dataclass(frozen=True)
class Draw:
    """Two faces of each of B people, (2B) each, all first ones first; their neutral shapes (B,478,3).

    clean: the meshes (2B,478,3) before noise. face: what the networks are given. shift: by how many the people are rolled
    for the exchange of expressions.
    """

    face: FaceInput
    clean: Tensor
    neutral: Tensor
    shift: int

    @staticmethod
    def of(data: ClipDataset, shapes: Shapes, count: int, generator: torch.Generator) -> Draw:
        """Random people evenly, half of them made up: another shape under their frames' expressions; half mirrored."""
        people = list(data.people.values())

        def index(limit: int) -> int:
            return int(torch.randint(limit, (1,), generator=generator))

        who = [index(len(people)) for _ in range(count)]
        frames = []
        for _ in range(2):
            clips = [people[one][index(len(people[one]))] for one in who]
            frames.append(torch.cat([clip.points([index(clip.length)]) for clip in clips]))
        flipped = torch.rand(count, generator=generator) < 0.5
        neutral = shapes.neutral[who]
        neutral = torch.where(flipped[:, None, None], mirror(neutral), neutral)
        landmarks = torch.stack(frames)
        landmarks = torch.where(flipped[:, None, None], mirror(landmarks), landmarks).flatten(0, 1)
        face = face_of(torch.zeros(2 * count, 0), landmarks)
        made_up = neutral.clone()
        made_up[: round(count * _MADE_UP)] = shapes.draw(round(count * _MADE_UP), generator)
        clean = face.mesh + (made_up - neutral).repeat(2, 1, 1)
        noisy = clean + _NOISE * torch.randn(clean.shape, generator=generator)
        return Draw(
            FaceInput(face.image, noisy, face.rotation, face.scale, face.translation), clean, made_up, 1 + index(count - 1)
        )

    def to(self, device: torch.device) -> Draw:
        """The same on a device."""
        return Draw(self.face.to(device), self.clean.to(device), self.neutral.to(device), self.shift)


def anchor_losses(model: LiteMMFA, teacher: LiteMMFA, drawn: Draw) -> dict[str, Tensor]:
    """Unweighted scalars of one draw.

    keypoint: both faces, placed with x_c of the first, against their landmarks. swap: x_c of the first under another
    person's motion, against the own shape with the other's change from neutral. size: the distance of the eye corners over
    the scale is the same in both faces. scale: that distance is the landmarks', so that the scale takes what size denies
    the expression. free: keypoints without a landmark against the teacher's.
    """
    count, anchored, weights = len(drawn.neutral), len(VERTICES), losses.anchor_weights(drawn.clean.device)
    face, motion = drawn.face, model.motion(drawn.face)
    other = torch.cat([torch.arange(2 * count), count + torch.arange(count).roll(drawn.shift)]).to(drawn.clean.device)
    placed = _animate(model, face[:count], motion[other])
    with torch.no_grad():
        free = _animate(teacher, face[:count], teacher.motion(face)[other])[:, anchored:]
    change = drawn.clean[count:] - drawn.neutral
    swapped = drawn.neutral + change.roll(drawn.shift, 0)
    wanted = torch.cat([drawn.clean, swapped])[:, list(VERTICES)]
    wanted = face.scale[other, :, None] * wanted @ face.rotation[other].transpose(1, 2) + face.translation[other, None]
    values = {
        "keypoint": 2 * losses.keypoint_loss(placed[: 2 * count], wanted[: 2 * count], weights),
        "swap": losses.keypoint_loss(placed[2 * count :], wanted[2 * count :], weights),
        "free": (placed[:, anchored:] - free).abs().mean(),
    }
    if model.params.composition != "face-vid2vid":  # whose deformation also has to hold the scale
        sized = placed[: 2 * count] / motion.scale[:, :, None]
        values["size"] = losses.size_loss(sized[:count], sized[count:], EYE_CORNERS)
        values["scale"] = losses.size_loss(placed[: 2 * count], wanted[: 2 * count], EYE_CORNERS)
    return values


def _animate(model: LiteMMFA, face: FaceInput, motion: Motion) -> Tensor:
    """Keypoints (3B,K,3) of B faces, repeated, under 3B motions."""
    return model.keypoints(model.canonical(face).repeat(3, 1, 1), motion)[0]


def _still(mesh: Tensor) -> FaceInput:
    count = len(mesh)
    still = torch.eye(3).to(mesh).expand(count, 3, 3)
    return FaceInput(mesh.new_zeros(count, 0), mesh, still, mesh.new_ones(count, 1), mesh.new_zeros(count, 3))


def components(rows: Tensor, count: int) -> Tensor:
    """The largest principal components (m,count) of rows (n,m) about the origin."""
    triangle = torch.linalg.qr(rows, mode="r").R if len(rows) > rows.shape[1] else rows
    directions: Tensor = torch.linalg.svd(triangle, full_matrices=False).Vh[:count]
    return directions.T
