"""Who drives whom: both protocols, pairs by seed and from files, and what is refused."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmfa.errors import ConfigError, MediaError
from mmfa.evaluate.bursts import BURST_FRAMES, BURSTS, bursts
from mmfa.evaluate.protocol import ALL, listing_hash, split_of, tasks_of, write_pairs
from mmfa.media.image import Array

PEOPLE = {"ann": (9, 5), "bob": (7,), "cy": (6,)}


def noise(count: int, *, size: int = 64, seed: int = 0) -> list[Array]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def data(clip_writer, tmp_path_factory) -> Path:
    """Four clips of three persons, one image of a fourth, all "val"; named in an index."""
    root = tmp_path_factory.mktemp("data")
    index: dict[str, list[dict[str, str]]] = {"clips": [], "images": []}
    for person, counts in PEOPLE.items():
        for number, count in enumerate(counts):
            clip_writer(root / f"{person}{number}.mp4", noise(count, seed=number + count), fps=25, sound=False)
            index["clips"].append({"person": person, "split": "val", "file": f"{person}{number}.mp4"})
    Image.fromarray(noise(1, size=48)[0]).save(root / "dot.png")
    index["images"].append({"person": "dot", "split": "val", "file": "dot.png"})
    (root / "index.json").write_text(json.dumps(index))
    return root


def test_same_identity_never_measures_the_source_frame(data: Path) -> None:
    tasks = tasks_of(data, protocol="same", split="val", stride=2)
    assert [(task.name, task.frames) for task in tasks] == [("ann0", 4), ("ann1", 2), ("bob0", 3), ("cy0", 2)]
    assert len(list(tasks[0].driving.read())) == 9 and all(task.source == task.driving for task in tasks)
    assert [list(task.measured) for task in tasks] == [[2, 4, 6, 8], [2, 4], [2, 4, 6], [2, 4]]
    assert tasks[0].expected() == "ann0\t9\t64x64"


def test_bursts_are_consecutive_apart_and_spread_over_the_clip(data: Path) -> None:
    assert bursts(1) == [] and bursts(2) == [range(1, 2)] and bursts(16) == [range(1, 16)]
    assert bursts(17) == [range(1, 6), range(7, 12), range(12, 17)]
    for count in range(17, 300):
        found = bursts(count)
        assert len(found) == BURSTS and all(len(burst) == BURST_FRAMES for burst in found)
        assert found[0].start == 1 and found[-1].stop == count
        assert all(a.stop <= b.start for a, b in pairwise(found))
    task = tasks_of(data, protocol="same", split="val", stride=2)[0]
    assert list(task.measured) == [2, 4, 6, 8] and task.bursts == [range(1, 9)] and task.generated == [*range(1, 9)]
    assert tasks_of(data, protocol="same", split="val", stride=1)[0].bursts == []


def test_cross_identity_measures_every_frame_of_another_person(data: Path, tmp_path: Path) -> None:
    tasks = tasks_of(data, protocol="cross", split="val", stride=2, seed=3)
    assert sorted(task.driving.name for task in tasks) == ["ann0", "ann1", "bob0", "cy0"]
    assert all(task.source.person != task.driving.person and task.frames == -(-task.driving.frames // 2) for task in tasks)
    assert tasks == tasks_of(data, protocol="cross", split="val", stride=2, seed=3)
    drawn = {tuple(task.name for task in tasks_of(data, protocol="cross", split="val", seed=seed)) for seed in range(6)}
    assert len(drawn) > 1
    write_pairs(tmp_path / "pairs.csv", tasks)
    assert tasks_of(data, protocol="cross", split="val", stride=2, pairs=tmp_path / "pairs.csv") == tasks


def test_pairs_from_a_file_in_any_order_and_images_as_sources(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("source,driving\ndot,bob0\nann0,cy0\n")
    (tmp_path / "b.csv").write_text("source,driving\nann0,cy0\n\ndot,bob0\n")
    a, b = (tasks_of(data, protocol="cross", split="val", pairs=tmp_path / f"{name}.csv") for name in "ab")
    assert a == b and [task.name for task in a] == ["ann0--cy0", "dot--bob0"]
    assert a[1].source.frames == 1 and a[1].source.size == 48


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "doesn't begin with the line source,driving"),
        ("ann0,bob0\n", "doesn't begin with the line source,driving"),
        ("source,driving\n", "lists no pair"),
        ("source,driving\nann0\n", "line 2: 'ann0' is no pair"),
        ("source,driving\nann0,bob0\nann0,bob9\n", "line 3: there is no driving clip 'bob9'"),
        ("source,driving\nzoe,bob0\n", "no source 'zoe'"),
        ("source,driving\nann0,dot\n", "no driving clip 'dot'"),
        ("source,driving\nann0,bob0\nann0,bob0\n", "comes twice"),
    ],
)
def test_malformed_pairs(data: Path, tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(MediaError, match=r"pairs\.csv") as error:
        tasks_of(data, protocol="cross", split="val", pairs=tmp_path / "pairs.csv")
    assert word in str(error.value)


def test_options_that_do_not_fit(data: Path, tmp_path: Path, clip_writer) -> None:
    with pytest.raises(MediaError, match="can't be read as a file of pairs"):
        tasks_of(data, protocol="cross", split="val", pairs=tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="--protocol cross"):
        tasks_of(data, protocol="same", split="val", pairs=tmp_path / "none.csv")
    with pytest.raises(MediaError, match="no clip in the split 'test'; splits with clips: val"):
        tasks_of(data, protocol="same", split="test")
    with pytest.raises(ConfigError, match="stride is 0"):
        tasks_of(data, protocol="same", split="val", stride=0)
    with pytest.raises(ConfigError, match=r"ann1\.mp4 has 5 frames: --stride 5 leaves none"):
        tasks_of(data, protocol="same", split="val", stride=5)
    clip_writer(tmp_path / "wide.mp4", [np.zeros((64, 96, 3), np.uint8)] * 3, fps=25, sound=False)
    with pytest.raises(MediaError, match=r"wide\.mp4 is 96 x 64; square"):
        tasks_of(tmp_path, protocol="same", split="train")
    (tmp_path / "wide.mp4").unlink()
    clip_writer(tmp_path / "alone.mp4", noise(3), fps=25, sound=False)
    with pytest.raises(MediaError, match="one person"):
        tasks_of(tmp_path, protocol="cross", split="train")


def test_a_bare_folder_is_measured_whole_and_an_index_by_its_val(data: Path, tmp_path: Path, clip_writer) -> None:
    for name in ("ann/one", "bob/two"):
        (tmp_path / name).parent.mkdir()
        clip_writer(tmp_path / f"{name}.mp4", noise(3), fps=25, sound=False)
    bare = tasks_of(tmp_path, protocol="same", split=None)
    assert [task.name for task in bare] == ["ann__one", "bob__two"] and split_of(tmp_path, None) == ALL
    assert bare == tasks_of(tmp_path, protocol="same", split="train") == tasks_of(tmp_path, protocol="same", split=ALL)
    with pytest.raises(MediaError, match="no clip in the split 'val'; splits with clips: train"):
        tasks_of(tmp_path, protocol="same", split="val")
    assert split_of(data, None) == "val" and split_of(data, "train") == "train"
    splits = {"ann/one": "val", "bob/two": "train"}
    listed = [{"person": name[:3], "split": split, "file": f"{name}.mp4"} for name, split in splits.items()]
    (tmp_path / "index.json").write_text(json.dumps({"clips": listed}))
    assert [task.name for task in tasks_of(tmp_path, protocol="same", split=None)] == ["ann__one"]
    assert tasks_of(tmp_path, protocol="same", split=ALL) == bare


def test_the_listing_hash_knows_content_not_place(data: Path, tmp_path: Path, clip_writer) -> None:
    tasks = tasks_of(data, protocol="same", split="val")
    assert listing_hash(tasks) == listing_hash(tasks[::-1]) != listing_hash(tasks[:3])
    hashes = []
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        (tmp_path / folder).mkdir()
        clip_writer(tmp_path / folder / "clip.mp4", noise(3, seed=seed), fps=25, sound=False)
        hashes.append(listing_hash(tasks_of(tmp_path / folder, protocol="same", split="train")))
    assert hashes[0] == hashes[1] != hashes[2]
