"""What the canonical detector takes from a picture beside its landmarks, in closed form.

One frame's mesh tells a person's shape badly, because the expression is in it. Features of the picture (`mmfa.nets.looks`) tell
it worse, but know more steadily who it is. Discriminant analysis finds in both together what differs between people for how
much it varies within one; a person's coordinates along `fit_identity`'s directions are regressed on that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import ConfigError
from ..models.lite.model import LiteMMFA
from ..nets.anchors import VERTICES
from ..nets.canonical import MeshCanonicalDetector
from ..nets.looks import LookEncoder
from ..priors.landmarks import FaceLandmarker
from .anchoring import IdentityMap, Shapes, components, discriminant, fit_identity
from .data import ClipDataset, even_frames, face_of

FRAMES = 24
"""Frames of each person, evenly from all clips."""
IDENTITIES = 10
"""Discriminant directions that are kept."""
_MESH, _LOOKS, _COMPONENTS, _SHRINKAGE = 150, 300, 250, 0.2
_SAME = 0.01  # how far the detector may be from `fit_identity`, in units of the canonical face


@dataclass(frozen=True)
class Looks:
    """Of frames of people: offsets (T,1434) from the mean mesh, looks (T,LOOKS), and whose (T,)."""

    mesh: Tensor
    looks: Tensor
    person: Tensor


def looks_at_pictures(model: LiteMMFA) -> bool:
    """Whether the canonical detector has an encoder for pictures."""
    return isinstance(model.canonical_detector, MeshCanonicalDetector) and model.canonical_detector.looks is not None


def copy_layers(encoder: LookEncoder) -> None:
    """Give an encoder the layers of the landmark network that comes with mmfa, in place."""
    network = FaceLandmarker().network
    parameters = list(encoder.parameters())
    buffers = [getattr(network, node[name]) for node in network.nodes for name in ("weight", "bias", "slope") if name in node]
    with torch.no_grad():
        for mine, theirs in zip(parameters, buffers[: len(parameters)], strict=True):
            mine.copy_(theirs.reshape(mine.shape))


@torch.no_grad()
def fit_looks(model: LiteMMFA, data: ClipDataset, *, quiet: bool = False) -> None:
    """Fit the correction of a detector that has just been made `fit_identity`'s map of the same data, in place.

    Deterministic. Raises ConfigError when the detector is another map.
    """
    detector, device = model.canonical_detector, model.mean_mesh.device
    assert isinstance(detector, MeshCanonicalDetector) and detector.looks is not None
    copy_layers(detector.looks)
    identity = fit_identity(Shapes.of(data), directions=detector.params.directions)
    seen = look(model, data, quiet=quiet)
    _check(detector, identity, model.mean_mesh.cpu(), seen)
    weight, bias = correction(seen, identity, model.mean_mesh.cpu())
    detector.correct.weight.copy_(weight.to(device))
    detector.correct.bias.copy_(bias.to(device))
    vertices = identity.write.unflatten(1, (-1, 3))[:, list(VERTICES)].flatten(1)
    detector.write.weight.zero_()
    detector.write.weight[: vertices.shape[1]] = vertices.T.to(device)


@torch.no_grad()
def look(model: LiteMMFA, data: ClipDataset, *, quiet: bool = False) -> Looks:
    """`FRAMES` frames of every person, through the detector's encoder."""
    encoder = model.canonical_detector.looks
    assert isinstance(encoder, LookEncoder)
    mesh, looks, person = [], [], []
    for number, clips in enumerate(tqdm(data.people.values(), "looking at people", unit="person", disable=quiet or None)):
        for clip, frames in even_frames(clips, FRAMES):
            face = face_of(clip.images(frames, size=data.size), clip.points(frames)).to(model.mean_mesh.device)
            looks.append(encoder(face.image, rotation=face.rotation, scale=face.scale, translation=face.translation).cpu())
            mesh.append((face.mesh - model.mean_mesh).flatten(1).cpu())
            person += [number] * len(frames)
    return Looks(torch.cat(mesh), torch.cat(looks), torch.tensor(person))


def correction(seen: Looks, identity: IdentityMap, mean_mesh: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (k, 1434 + LOOKS) and bias (k,) of what to add to `identity`'s k coordinates of a mesh's offset."""
    mesh, looks = (_Block.of(rows, size) for rows, size in ((seen.mesh, _MESH), (seen.looks, _LOOKS)))
    rows = torch.cat([mesh.shorten(seen.mesh), looks.shorten(seen.looks)], 1).double()
    own = (seen.mesh + (mean_mesh - identity.mean).flatten()) @ identity.read
    scores = _discriminant(rows, seen.person)
    found, wanted = _means(rows @ scores, seen.person), _means(own.double(), seen.person)
    centre, aim = found.mean(0), wanted.mean(0)
    change = found - centre
    noise = ((rows @ scores - found[seen.person]).square().mean()) * len(found)
    effect = torch.linalg.solve(change.T @ change + noise * torch.eye(len(centre)).double(), change.T @ (wanted - aim))
    bias = aim - centre @ effect
    parts = (scores @ effect).split([mesh.basis.shape[1], looks.basis.shape[1]])
    weights = [block.basis.double() @ part for block, part in zip((mesh, looks), parts, strict=True)]
    bias -= mesh.mean.double() @ weights[0] + looks.mean.double() @ weights[1]
    read = identity.read.double()  # what is added is the difference to the mesh's own word
    bias -= (mean_mesh - identity.mean).flatten().double() @ read
    return torch.cat([weights[0] - read, weights[1]]).T.float(), bias.float()


@dataclass(frozen=True)
class _Block:
    """Some numbers of a row: their mean, and a basis that shortens them and makes their variances add up to 1 at most."""

    mean: Tensor
    basis: Tensor

    @staticmethod
    def of(rows: Tensor, size: int) -> _Block:
        mean, spread = rows.mean(0), rows.std(0)
        scale = 1 / (spread + 0.05 * spread.square().mean().sqrt())
        offset = (rows - mean) * scale
        return _Block(mean, scale[:, None] * components(offset, size) / offset.square().sum(1).mean().sqrt())

    def shorten(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) @ self.basis


def _discriminant(rows: Tensor, person: Tensor) -> Tensor:
    """Directions (q,IDENTITIES) in which people's means differ most for how much one's rows (T,q) vary, people evenly."""
    means = _means(rows, person)
    counts = torch.bincount(person)[person].sqrt()[:, None]
    within, between = (rows - means[person]) / counts / len(means) ** 0.5, (means - means.mean(0)) / len(means) ** 0.5
    both = within.T @ within + between.T @ between
    basis = torch.linalg.eigh(both).eigenvectors[:, -_COMPONENTS:]
    w, b = ((part @ basis).T @ (part @ basis) for part in (within, between))
    _, vectors, root = discriminant(w, b, shrinkage=_SHRINKAGE, count=IDENTITIES)
    directions: Tensor = basis @ torch.linalg.solve_triangular(root.T, vectors, upper=True)
    return directions


def _means(rows: Tensor, person: Tensor) -> Tensor:
    total = rows.new_zeros(int(person.max()) + 1, rows.shape[1]).index_add_(0, person, rows)
    return total / torch.bincount(person)[:, None]


def _check(detector: MeshCanonicalDetector, identity: IdentityMap, mean_mesh: Tensor, seen: Looks) -> None:
    """Raises ConfigError when the detector doesn't place what is seen as `identity` does."""
    offset = seen.mesh.unflatten(1, (-1, 3))
    shape = identity.mean.flatten() + (offset + mean_mesh - identity.mean).flatten(1) @ identity.read @ identity.write
    placed = detector(offset.to(detector.anchors.device))[:, : len(VERTICES)].cpu()
    if float((placed - shape.unflatten(1, (-1, 3))[:, list(VERTICES)]).abs().max()) > _SAME:
        raise ConfigError("The canonical detector isn't stage 0's of this data; anchor the model anew (tools/anchor_motion.py).")
