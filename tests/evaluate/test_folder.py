"""A report's folder appears whole or not at all, and nobody's files go."""

import os
from pathlib import Path

import pytest

from mmfa.errors import ConfigError, MediaError
from mmfa.evaluate.folder import check_folder, whole_folder

FILES = ("report.json", "page.html", "pairs.csv")


def check(folder: Path) -> None:
    check_folder(folder, files=FILES, mark="report.json")


def write(folder: Path, text: str, names: tuple[str, ...] = FILES[:2]) -> None:
    with whole_folder(folder) as place:
        for name in names:
            (place / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_an_older_report_goes_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er" / "report"
    check(folder)
    write(folder, "old", FILES)
    assert content(folder) == dict.fromkeys(FILES, "old")
    check(folder)
    write(folder, "new")
    assert content(folder) == dict.fromkeys(FILES[:2], "new")
    assert [path.name for path in folder.parent.iterdir()] == ["report"]


def half_written(folder: Path, error: type[BaseException]) -> None:
    with whole_folder(folder) as place:
        (place / "report.json").write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_one_that_fails(tmp_path: Path, error: type[BaseException]) -> None:
    for folder in (tmp_path / "new", tmp_path / "old"):
        if folder.name == "old":
            write(folder, "old")
        with pytest.raises(error):
            half_written(folder, error)
    assert [path.name for path in tmp_path.iterdir()] == ["old"] and content(tmp_path / "old") == dict.fromkeys(FILES[:2], "old")


def test_the_older_one_comes_back_when_the_new_one_cannot_be_put_in_its_place(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "report", "old")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if (self / "report.json").read_text() == "new":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(MediaError, match=r"report can't be written \(Input/output error\)"):
        write(tmp_path / "report", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["report"] and content(tmp_path / "report")["report.json"] == "old"


def test_a_file_that_cannot_be_written_is_named_where_it_was_to_be(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    with pytest.raises(MediaError) as error, whole_folder(folder) as place:
        raise MediaError(f"{place / 'page.html'} cannot be written: the disk is full.")
    assert str(error.value) == f"{folder / 'page.html'} cannot be written: the disk is full."


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "report").symlink_to(tmp_path / "far", target_is_directory=True)
    check(tmp_path / "report")
    write(tmp_path / "report", "new")
    assert (tmp_path / "report").is_symlink() and content(tmp_path / "far") == dict.fromkeys(FILES[:2], "new")


def test_what_is_no_report_is_not_replaced(tmp_path: Path, monkeypatch) -> None:
    mine, no_mark, file, looked_at = (tmp_path / name for name in ("mine", "no_mark", "file", "looked_at"))
    write(mine, "old")
    (mine / "notes.txt").write_text("mine")
    write(no_mark, "x", ("pairs.csv",))
    file.write_text("x")
    write(looked_at, "old")
    (looked_at / ".DS_Store").write_text("x")
    with pytest.raises(ConfigError, match=r"mine holds notes\.txt, which is no part of an older report"):
        check(mine)
    with pytest.raises(ConfigError, match=r"no_mark holds pairs\.csv, which is no part of an older report"):
        check(no_mark)
    with pytest.raises(MediaError, match="file can't be made a folder: a file is there"):
        check(file)
    with pytest.raises(MediaError, match=r"report can't be made a folder: .*file isn't a folder"):
        check(file / "report")
    check(looked_at)
    monkeypatch.chdir(looked_at)
    with pytest.raises(ConfigError, match=r"which \. doesn't allow; name one in it, such as report"):
        check(Path())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said_before(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MediaError, match="isn't writable"):
        check(tmp_path / "report")
    tmp_path.chmod(0o700)
