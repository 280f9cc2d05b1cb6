"""The reader of the three layouts, and what it says about broken ones."""

import json
import shutil
from pathlib import Path

import pytest

from mmfa.dataset.index import entries, is_bare, media_files, read_index
from mmfa.dataset.prepare import Report
from mmfa.errors import MediaError


@pytest.fixture
def copy(made: tuple[Path, Report], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "dataset"))


def folder_of(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"x")
    return root


def test_a_prepared_data_set(made: tuple[Path, Report]) -> None:
    rows = {row.name: row for row in read_index(made[0])}
    found = entries(made[0], kind=None)
    assert {entry.name for entry in found} == set(rows) and len(found) == 7
    for entry in found:
        row = rows[entry.name]
        assert (entry.path, entry.landmarks) == (made[0] / row.file, made[0] / row.landmarks)
        assert (entry.person, entry.split, entry.kind) == (row.person, row.split, row.kind)
    val = entries(made[0], split="val", kind=None)
    assert val == [entry for entry in found if entry.split == "val"]
    assert [entry.kind for entry in entries(made[0], kind="image")] == ["image"]


def test_a_folder_with_a_list(tmp_path: Path) -> None:
    folder_of(tmp_path, "clips/ann/one.two.mp4", "clips/bob/a.mp4", "images/c.jpg")
    clips = [
        {"file": "clips/bob/a.mp4", "person": "bob", "split": "val", "fps": 25},
        {"file": "clips/ann/one.two.mp4", "person": "ann", "split": "train"},
    ]
    images = [{"file": "images/c.jpg", "person": "cat", "split": "train"}]
    (tmp_path / "index.json").write_text(json.dumps({"clips": clips, "images": images}))
    ann, bob = entries(tmp_path)
    assert (ann.path, ann.person, ann.split, ann.landmarks) == (tmp_path / "clips/ann/one.two.mp4", "ann", "train", None)
    assert ann.name == "clips__ann__one-two" and bob.split == "val"
    assert [entry.person for entry in entries(tmp_path, kind="image")] == ["cat"]
    assert len(entries(tmp_path, kind=None)) == 3
    assert entries(tmp_path, split="val", kind="image") == []


def test_a_bare_folder(tmp_path: Path) -> None:
    folder_of(tmp_path, "ann/x.mp4", "ann/y.MOV", "eve.mkv", "ann/._x.mp4", ".cache/z.mp4", "ann/notes.txt", "ann/p.png")
    found = entries(tmp_path)
    assert [(entry.path.name, entry.person) for entry in found] == [("x.mp4", "ann"), ("y.MOV", "ann"), ("eve.mkv", "eve")]
    assert {entry.split for entry in found} == {"train"} and {entry.landmarks for entry in found} == {None}
    assert entries(tmp_path, split="val") == []


def test_a_bare_folder_as_voxceleb_has_it(tmp_path: Path) -> None:
    folder_of(tmp_path, "id1/video1/00001.mp4", "id1/video2/00001.mp4", "id2/video3/00001.mp4")
    found = entries(tmp_path)
    assert [entry.person for entry in found] == ["id1", "id1", "id2"] and len({entry.name for entry in found}) == 3


def test_linked_folders_and_files_are_followed_once(tmp_path: Path) -> None:
    root, disk = folder_of(tmp_path / "data", "cy/a.mp4"), folder_of(tmp_path / "disk", "ann/x.mp4", "ann/in/y.mp4", "z.mp4")
    (root / "ann").symlink_to(disk / "ann", target_is_directory=True)
    (root / "bob.mp4").symlink_to(disk / "z.mp4")
    (root / "also-cy").symlink_to(root / "cy", target_is_directory=True)  # the same clip again, under another person
    (root / "cy" / "up").symlink_to(root, target_is_directory=True)
    (disk / "ann" / "loop").symlink_to(disk / "ann", target_is_directory=True)
    (root / "gone").symlink_to(disk / "nothing", target_is_directory=True)
    found = [(entry.path.relative_to(root).as_posix(), entry.person) for entry in entries(root)]
    assert found == [("ann/in/y.mp4", "ann"), ("ann/x.mp4", "ann"), ("bob.mp4", "bob"), ("cy/a.mp4", "cy")]
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    assert [path.name for path in media_files(tmp_path / "link")] == ["y.mp4", "x.mp4", "bob.mp4", "a.mp4"]
    assert is_bare(root) and not is_bare(folder_of(root, "index.json"))


def test_names_are_unique_and_safe(tmp_path: Path) -> None:
    folder_of(tmp_path, "a b/c.mp4", "a-b/c.mp4", "A-B/c.mov", "é/d.mp4", "ü/d.mp4", "plain/e.mp4")
    names = [entry.name for entry in entries(tmp_path)]
    assert len({name.casefold() for name in names}) == 6
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for name in names)
    assert "plain__e" in names


@pytest.mark.parametrize("files", [[], ["notes.txt"], ["ann/photo.jpg"]])
def test_a_folder_without_clips_is_said(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(MediaError, match=r"contains no clip; .*mmfa prepare"):
        entries(folder_of(tmp_path, *files))


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is not a folder"):
        entries(tmp_path / "none")


PERSON = '{"clips": [{"file": "a.mp4", "person": ["a"], "split": "val"}]}'


@pytest.mark.parametrize("text", ["{", "[]", '{"clips": [{"file": "a.mp4"}]}', '{"clips": 3}', "[" * 100_000, PERSON])
def test_a_list_that_is_none_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(MediaError, match=r"index\.json is no list of clips"):
        entries(tmp_path)


def test_another_version_is_one_sentence(copy: Path) -> None:
    lines = (copy / "index.jsonl").read_text().splitlines()
    header = {**json.loads(lines[0]), "version": 7}
    (copy / "index.jsonl").write_text("\n".join([json.dumps(header), '{"of": "the future"}']))
    with pytest.raises(MediaError, match="version 7 of the index, this program reads version 1; run mmfa prepare again"):
        entries(copy)


@pytest.mark.parametrize("damage", ["cut", "binary", "not ours", "field", "nothing"])
def test_a_damaged_index_is_said(copy: Path, damage: str) -> None:
    path = copy / "index.jsonl"
    lines = path.read_text().splitlines()
    if damage == "cut":
        path.write_text("\n".join(lines[:-1]))
    elif damage == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    elif damage == "not ours":
        path.write_text('{"format": "other", "version": 1}')
    elif damage == "field":
        path.write_text("\n".join([lines[0], *(json.dumps({"name": "a"}) for _ in lines[1:])]))
    else:
        path.write_text("")
    with pytest.raises(MediaError, match=r"index\.jsonl is no index of a data set, or damaged"):
        entries(copy)


@pytest.mark.parametrize("which", ["file", "landmarks"])
def test_a_missing_file_is_named(copy: Path, which: str) -> None:
    rows = [{**json.loads(line), "shard": None} for line in (copy / "index.jsonl").read_text().splitlines()[1:]]
    header = (copy / "index.jsonl").read_text().splitlines()[0]
    (copy / "index.jsonl").write_text("\n".join([header, *map(json.dumps, rows)]))
    gone = copy / rows[0][which]
    gone.unlink()
    with pytest.raises(MediaError, match=f"{gone.name} is named in the index .* but missing"):
        entries(copy, kind=None)


@pytest.mark.parametrize(
    ("key", "value"), [("file", 5), ("frames", "many"), ("shard", ["a"]), ("yaw", 0.0), ("landmarks", None), ("person", {"a": 1})]
)
def test_a_row_of_other_types_is_refused(copy: Path, key: str, value: object) -> None:
    header, first, *rest = (copy / "index.jsonl").read_text().splitlines()
    (copy / "index.jsonl").write_text("\n".join([header, json.dumps({**json.loads(first), key: value}), *rest]))
    with pytest.raises(MediaError, match=rf"index\.jsonl is no index of a data set, or damaged \({key} can't be"):
        entries(copy)


@pytest.mark.parametrize("line", ["[" * 100_000, "[1]", '"' + "a" * 2_000_000 + '"'])
def test_a_hostile_line_of_an_index_is_refused(copy: Path, line: str) -> None:
    header, _, *rest = (copy / "index.jsonl").read_text().splitlines()
    (copy / "index.jsonl").write_text("\n".join([header, line, *rest]))
    with pytest.raises(MediaError, match=r"index\.jsonl is no index of a data set"):
        entries(copy)
