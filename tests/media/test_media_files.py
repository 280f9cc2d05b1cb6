import errno
import os
import stat

import pytest

from mmfa.errors import MediaError, MmfaError
from mmfa.media.files import atomic_output, check_input


def test_output_appears_only_at_the_end(tmp_path):
    target = tmp_path / "out.txt"
    with atomic_output(target) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".txt"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_output_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic_output(tmp_path / "out"):
        pass
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, error):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_output(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_full_disk_is_told_in_one_sentence(tmp_path):
    with pytest.raises(MediaError, match="out.txt cannot be written: the disk is full"):
        with atomic_output(tmp_path / "out.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with atomic_output(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_bad_output_places(tmp_path):
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for path, message in [
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "out.txt", "does not exist"),
        (tmp_path / "file" / "out.txt", "is not a folder"),
        (tmp_path / "pipe", "not a regular file"),
    ]:
        with pytest.raises(MediaError, match=message), atomic_output(path):
            pytest.fail("the block must not run")


def test_unwritable_folder(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(MediaError, match="permission denied"), atomic_output(tmp_path / "out.txt"):
        pytest.fail("the block must not run")


def test_bad_inputs_are_named(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    for path, message in [
        (tmp_path / "no.mp4", "no.mp4 does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "empty.mp4", "empty.mp4 is empty"),
    ]:
        with pytest.raises(MediaError, match=message) as caught:
            check_input(path)
        assert isinstance(caught.value, MmfaError) and isinstance(caught.value, ValueError)
        assert "\n" not in str(caught.value)


def test_good_input_is_returned(tmp_path):
    (tmp_path / "a").write_text("x")
    assert check_input(str(tmp_path / "a")) == tmp_path / "a"
