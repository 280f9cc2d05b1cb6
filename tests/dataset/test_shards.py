"""Shards: WebDataset's convention, the way back to files, and damage."""

import io
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from mmfa.dataset.index import entries, read_index, write_index
from mmfa.dataset.prepare import Report
from mmfa.dataset.shards import read_shard, write_shards
from mmfa.errors import MediaError

Made = tuple[Path, Report]


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "dataset"))


def test_a_shard_holds_one_sample_after_the_other_under_one_key(made: Made) -> None:
    shards = sorted((made[0] / "shards").iterdir())
    splits = {row.split for row in read_index(made[0])}
    assert {shard.name for shard in shards} >= {f"{split}-000000.tar" for split in splits}
    seen = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            members = tar.getnames()
        for media, landmarks, line in zip(members[::3], members[1::3], members[2::3], strict=True):
            key, _, suffix = media.partition(".")
            assert suffix in ("mp4", "png") and (landmarks, line) == (f"{key}.safetensors", f"{key}.json")
            seen[key] = f"shards/{shard.name}"
    assert seen == {row.name: row.shard for row in read_index(made[0])}
    assert len(shards) > 2


def test_samples_are_the_files_and_lines_of_the_index(made: Made) -> None:
    rows = {row.name: row for row in read_index(made[0])}
    for shard in (made[0] / "shards").iterdir():
        for sample in read_shard(shard):
            assert sample.row == rows.pop(sample.row.name)
            assert sample.media == (made[0] / sample.row.file).read_bytes()
            assert sample.landmarks == (made[0] / sample.row.landmarks).read_bytes()
    assert not rows


def test_the_reader_unpacks_the_split_asked_for_and_no_more(made: Made, copy: Path) -> None:
    shutil.rmtree(copy / "clips")
    shutil.rmtree(copy / "images")
    wanted = entries(copy, split="val", kind=None)
    assert wanted
    for entry in wanted:
        original = made[0] / entry.path.relative_to(copy)
        assert entry.path.read_bytes() == original.read_bytes()
        assert entry.landmarks is not None and entry.landmarks.is_file()
    rows = read_index(copy)
    assert {(copy / row.file).exists() for row in rows if row.split == "train"} == {False}
    assert len(entries(copy, kind=None)) == len(rows)


def test_shards_are_the_same_again_and_older_ones_go(made: Made, copy: Path) -> None:
    before = {path.name: path.read_bytes() for path in (made[0] / "shards").iterdir()}
    rows = read_index(copy)
    write_shards(copy, rows, megabytes=0.05)
    assert {path.name: path.read_bytes() for path in (copy / "shards").iterdir()} == before
    rows = write_shards(copy, rows, megabytes=100)
    assert len(list((copy / "shards").iterdir())) == len({row.split for row in rows}) < len(before)


def test_a_damaged_or_missing_shard_is_named(copy: Path) -> None:
    name = read_index(copy)[0].shard
    assert name is not None
    shard = copy / name
    shutil.rmtree(copy / "clips")
    shutil.rmtree(copy / "images")
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(MediaError, match=shard.name):
        entries(copy, kind=None)
    shard.unlink()
    with pytest.raises(MediaError, match=shard.name):
        entries(copy, kind=None)


def test_an_index_cannot_make_files_outside_of_its_folder(copy: Path) -> None:
    rows = read_index(copy)
    write_index(copy, [replace(rows[0], file="../outside.mp4"), *rows[1:]], size=128)
    with pytest.raises(MediaError, match="outside of it"):
        entries(copy, kind=None)
    assert not (copy.parent / "outside.mp4").exists()


def _member(tar: tarfile.TarFile, name: str, content: bytes, *, headers: dict[str, str] | None = None) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.pax_headers = headers or {}
    tar.addfile(member, io.BytesIO(content))


def test_a_sparse_member_is_refused_by_what_it_claims(tmp_path: Path) -> None:
    """64 GB of nothing in no bytes at all."""
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x.mp4", "GNU.sparse.realsize": str(1 << 36)}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        _member(tar, "x.mp4", f"1\n{(1 << 36) - 1}\n1\n".encode().ljust(512, b"\0") + b"x", headers=headers)
    with pytest.raises(MediaError, match=r"a\.tar is no shard .*its member x\.mp4 claims 68,719,476,736"):
        list(read_shard(tmp_path / "a.tar"))


def test_a_member_larger_than_its_shard_or_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        _member(tar, "x.mp4", b"m" * 5000)
    monkeypatch.setattr("mmfa.dataset.shards.LARGEST_MEMBER", 4000)
    with pytest.raises(MediaError, match=r"x\.mp4 claims 5,000 bytes"):
        list(read_shard(tmp_path / "a.tar"))
    monkeypatch.undo()
    header = bytearray((tmp_path / "a.tar").read_bytes()[:512])
    header[124:136] = b"00777777777\0"  # 1 GB in a file of 10 kB
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "b.tar").write_bytes(bytes(header) + bytes(10_000))
    with pytest.raises(MediaError, match=r"x\.mp4 claims 134,217,727 bytes"):
        list(read_shard(tmp_path / "b.tar"))


@pytest.mark.parametrize("line", [b"[" * 100_000, b"[1]", b'{"name": "x", "file": 5}', b"\xff"])
def test_an_index_line_that_is_none_is_refused(tmp_path: Path, line: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        _member(tar, "x.json", line)
    with pytest.raises(MediaError, match=r"a\.tar is no shard of a data set") as caught:
        list(read_shard(tmp_path / "a.tar"))
    assert len(str(caught.value)) < 400


def test_members_of_other_samples_are_not_mixed(made: Made, tmp_path: Path) -> None:
    """What has no index line of its own isn't another sample's."""
    shard = next((made[0] / "shards").iterdir())
    with tarfile.open(shard) as old, tarfile.open(tmp_path / "a.tar", "w") as tar:
        media, landmarks, line = old.getmembers()[:3]
        for member in (media, landmarks):
            content = old.extractfile(member)
            assert content is not None
            _member(tar, f"other{Path(member.name).suffix}", content.read())
        content = old.extractfile(line)
        assert content is not None
        _member(tar, line.name, content.read())
    with pytest.raises(MediaError, match="no shard"):
        list(read_shard(tmp_path / "a.tar"))
