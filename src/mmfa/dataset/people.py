"""Who is who in a data set: persons by face or by folder, and splits that never share a person."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .extract import Piece, source_key

People = Literal["auto", "folder", "identity", "video"]
Floats = NDArray[np.float64]

# Distance between embeddings of length 1. Of 448 clips of 242 persons, 99 % of the pairs of one person lie below 0.310, 99.9 %
# of the pairs of two persons above 0.310 (`research/people.py`); a group holds them as a mean. dlib's own 0.6, on its longer
# vectors, is 0.42 here: meant for two single photos and far too wide for groups.
SAME_PERSON = 0.28
_BLOCK = 256


def persons(pieces: Sequence[Piece], people: People) -> tuple[list[str], str]:
    """The person of each piece, and a sentence that says how they were told apart.

    "folder": the first folder of the source's path; a source at the top is a person by itself. "identity": by face.
    "video": each source is a person. "auto": "folder" where every source lies in one, else "identity" where there are
    embeddings, else "video". Pieces have embeddings all or none.
    """
    known = all(piece.identity is not None for piece in pieces)
    if people == "auto":
        in_folders = all(len(PurePosixPath(piece.source).parts) > 1 for piece in pieces)
        people = "folder" if in_folders else "identity" if known else "video"
        if people == "video":
            told = "each file is a person of its own: pip install 'mmfa[identity]' and prepare afresh to group by face"
            return _by_video(pieces), told
    if people == "folder":
        names = _by_folder(pieces)
        shared = _shared(names, group(_embeddings(pieces))) if known else 0
        told = "the first folder names the person"
        if shared:
            told += f"; {shared} faces appear in more than one folder: --people identity would group them by face"
        return names, told
    if people == "identity":
        return _by_face(pieces, group(_embeddings(pieces))), "persons are told apart by face"
    return _by_video(pieces), "each file is a person of its own"


def group(embeddings: Floats) -> NDArray[np.int64]:
    """Labels (N,) from 0, in order of appearance, of identity embeddings (N,128): nearby ones are one person.

    Each embedding joins the nearest group before it whose members are within `SAME_PERSON` on average (root mean square);
    then the groups join each other, until nothing changes. The average keeps big groups from swallowing their neighbours.
    Deterministic in the order given; memory grows with N, not with its square.
    """
    means = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    weights = np.ones(len(embeddings))
    labels = np.arange(len(embeddings))
    while True:
        joined, means, weights = _join(means, weights)
        labels = joined[labels]
        if len(means) == len(joined):
            return labels


def splits(people: Iterable[str], *, val: float, seed: int) -> dict[str, str]:
    """The split, "train" or "val", of each person, by a hash of the name: more people don't move those there were.

    `val` is the share of the people. Where it isn't 0 and there are two or more, each split has at least one.
    """
    place = {person: _unit_hash(f"{seed}/{person}") for person in sorted(set(people))}
    chosen = {person for person, at in place.items() if at < val}
    if len(place) > 1 and val > 0:
        order = sorted(place, key=lambda person: place[person])
        chosen = (chosen | {order[0]}) - ({order[-1]} if val < 1 else set())
    return {person: "val" if person in chosen else "train" for person in place}


def _join(means: Floats, weights: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """One round over groups given by the means (N,128) of their unit vectors and their sizes (N,).

    Returns the new label of each, and means and sizes of the new groups. Between two groups the mean squared distance of
    their members is 2 - 2 m.m'.
    """
    sums, sizes = np.zeros_like(means), np.zeros_like(weights)
    labels = np.zeros(len(means), dtype=np.int64)
    count = 0
    for start in range(0, len(means), _BLOCK):
        block = means[start : start + _BLOCK]
        # One matrix product against the groups as they stood before the block; only those begun in it are kept up to date.
        before = count
        to_old = 2 - 2 * block @ (sums[:before] / sizes[:before, None]).T
        for number, mean in enumerate(block):
            to_new = 2 - 2 * (sums[before:count] @ mean) / sizes[before:count]
            squared = np.concatenate([to_old[number], to_new])
            label = int(squared.argmin()) if squared.min(initial=np.inf) < SAME_PERSON**2 else count
            count = max(count, label + 1)
            sums[label] += mean * weights[start + number]
            sizes[label] += weights[start + number]
            labels[start + number] = label
    return labels, sums[:count] / sizes[:count, None], sizes[:count]


def _embeddings(pieces: Sequence[Piece]) -> Floats:
    return np.array([piece.identity for piece in pieces], dtype=np.float64)


def _by_folder(pieces: Sequence[Piece]) -> list[str]:
    parts = [PurePosixPath(piece.source).parts for piece in pieces]
    return [folders[0] if len(folders) > 1 else source_key(folders[0]) for folders in parts]


def _by_video(pieces: Sequence[Piece]) -> list[str]:
    return [source_key(piece.source) for piece in pieces]


def _by_face(pieces: Sequence[Piece], labels: NDArray[np.int64]) -> list[str]:
    """A person is called like the first of its pieces, so that names don't shift when others join."""
    first: dict[int, str] = {}
    return [first.setdefault(int(label), piece.name) for label, piece in zip(labels, pieces, strict=True)]


def _shared(names: Sequence[str], labels: NDArray[np.int64]) -> int:
    """How many faces have more than one name."""
    found: dict[int, set[str]] = {}
    for name, label in zip(names, labels, strict=True):
        found.setdefault(int(label), set()).add(name)
    return sum(len(some) > 1 for some in found.values())


def _unit_hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
