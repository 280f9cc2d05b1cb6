"""Persons by face and by folder, and splits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfa.dataset.extract import Piece
from mmfa.dataset.people import group, persons, splits


def piece(source: str, identity: np.ndarray | None = None) -> Piece:
    return Piece(
        name=source.replace("/", "-"), kind="clip", file="", landmarks="", frames=1, fps=25.0, seconds=1.0, source=source,
        start=0.0, end=1.0, face_width=100.0, yaw=[0.0, 0.0], pitch=[0.0, 0.0], sharpness=1.0, score=1.0,
        identity=None if identity is None else identity.tolist(),
    )  # fmt: skip


def faces(people: int, each: int, *, spread: float, seed: int = 0) -> np.ndarray:
    """Embeddings (people * each, 128), person by person; two of one person are about `spread` apart at length 1."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, 1, 128))
    centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
    return (1.4 * (centres + random.normal(size=(people, each, 128)) * spread / 16)).reshape(-1, 128)


@pytest.mark.parametrize("seed", range(4))
def test_faces_are_grouped_by_person_in_any_order(seed: int) -> None:
    embeddings = faces(12, 6, spread=0.2, seed=seed)
    order = np.random.default_rng(seed).permutation(len(embeddings))
    labels = group(embeddings[order])
    truth = order // 6
    assert len(set(labels)) == 12
    assert all(len(set(labels[truth == person])) == 1 for person in range(12))
    assert labels[0] == 0 and (np.maximum.accumulate(labels)[1:] - np.maximum.accumulate(labels)[:-1]).max() == 1


def test_a_chain_of_similar_faces_is_not_one_person() -> None:
    angles = np.arange(0, 1.5, 0.2)
    embeddings = np.zeros((len(angles), 128))
    embeddings[:, 0], embeddings[:, 1] = np.cos(angles), np.sin(angles)
    labels = group(embeddings)
    assert labels[0] != labels[-1]


def test_folders_name_persons_and_a_face_in_two_folders_is_told() -> None:
    one, other = faces(2, 1, spread=0.0)
    pieces = [piece("ann/trip/a.mp4", one), piece("ann/b.mp4", one), piece("bob/c.mp4", other)]
    assert persons(pieces, "auto") == (["ann", "ann", "bob"], "the first folder names the person")
    names, told = persons([*pieces, piece("eve/d.mp4", other)], "auto")
    assert names == ["ann", "ann", "bob", "eve"] and "1 faces appear in more than one folder" in told
    assert persons([*pieces, piece("eve/d.mp4", other)], "identity")[0] == ["ann-trip-a.mp4"] * 2 + ["bob-c.mp4"] * 2


def test_without_folders_faces_tell_and_without_embeddings_files_do() -> None:
    one, other = faces(2, 1, spread=0.0)
    names, told = persons([piece("a.mp4", one), piece("b.mp4", other), piece("c.mp4", one)], "auto")
    assert names == ["a.mp4", "b.mp4", "a.mp4"] and told == "persons are told apart by face"
    names, told = persons([piece("a.mp4"), piece("a.mp4"), piece("b.mp4")], "auto")
    assert names[0] == names[1] != names[2] and "mmfa[identity]" in told


@settings(max_examples=30)
@given(st.sets(st.text(min_size=1), min_size=2, max_size=30), st.floats(0.01, 0.99), st.integers(0, 5))
def test_splits_have_both_sides_and_depend_on_nothing_else(people: set[str], val: float, seed: int) -> None:
    chosen = splits(people, val=val, seed=seed)
    assert set(chosen) == people and set(chosen.values()) == {"train", "val"}
    assert chosen == splits(sorted(people, reverse=True), val=val, seed=seed)


def test_more_people_do_not_move_those_there_were() -> None:
    people = [f"p{i}" for i in range(1000)]
    few, many = splits(people[:500], val=0.1, seed=0), splits(people, val=0.1, seed=0)
    assert all(many[person] == split for person, split in few.items())
    assert 70 < sum(split == "val" for split in many.values()) < 130
    assert many != splits(people, val=0.1, seed=1)
    assert set(splits(people, val=0.0, seed=0).values()) == {"train"} and splits(["p"], val=0.1, seed=0)["p"] == "train"
