import errno
import os
import resource
import shutil
import stat

import numpy as np
import pytest
import torch
from av.error import FFmpegError
from safetensors import SafetensorError

from mmfa.errors import MediaError, MmfaError
from mmfa.media.files import atomic_output, check_input, replacing
from mmfa.media.image import write_image
from mmfa.media.writer import VideoWriter
from mmfa.motion import Motion
from mmfa.registry import build
from mmfa.train import checkpoints
from mmfa.weights import save_pretrained


def test_output_appears_only_at_the_end(tmp_path):
    target = tmp_path / "out.txt"
    with atomic_output(target) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".txt"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_output_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic_output(tmp_path / "out"):
        pass
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, error):
    target = tmp_path / "out.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_output(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_full_disk_is_told_in_one_sentence(tmp_path):
    with pytest.raises(MediaError, match=r"out\.txt cannot be written: the disk is full"), atomic_output(tmp_path / "out.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "larger than is allowed"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "reports an error"),
    ],
)
@pytest.mark.parametrize("raised", ["OSError", "FFmpegError", "SafetensorError"])
def test_what_a_disk_does_is_told_for_every_writer(tmp_path, number, words, raised):
    target = tmp_path / "out.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_output(target) as temporary:
            temporary.write_text("half")
            if raised == "SafetensorError":
                raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
            raise {"OSError": OSError, "FFmpegError": FFmpegError}[raised](number, os.strerror(number), str(temporary))

    with pytest.raises(MediaError, match=rf"out\.txt cannot be written: .*{words}"):
        write()
    assert target.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_a_readers_error_is_not_the_outputs(tmp_path):
    with pytest.raises(OSError, match=r"in\.txt"), atomic_output(tmp_path / "out.txt"):
        raise OSError(errno.EIO, "Input/output error", str(tmp_path / "in.txt"))


def _motion(folder):
    turn = torch.eye(3).expand(500, 3, 3)
    Motion(rotation=turn, scale=torch.ones(500, 1), translation=torch.zeros(500, 3), expression=torch.zeros(500, 64)).save(
        folder / "m.safetensors"
    )


def _checkpoint(folder):
    checkpoints.write(checkpoints.Checkpoint({"a": torch.zeros(50_000)}, 1, 1.0), folder / "c.safetensors")


def _video(folder):
    noise = np.random.default_rng(0).integers(0, 256, (8, 128, 128, 3), dtype=np.uint8)
    with VideoWriter(folder / "v.mp4", fps=25, size=(128, 128)) as writer:
        for image in noise:
            writer.write(image)


def _picture(folder):
    write_image(folder / "p.png", np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))


WRITERS = {"motion": _motion, "model": lambda folder: save_pretrained(build("tiny"), folder), "checkpoint": _checkpoint,
           "video": _video, "picture": _picture}  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
def test_a_limit_on_the_size_of_files_is_told(tmp_path, writer):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(MediaError, match="larger than is allowed"):
            WRITERS[writer](tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_follows_the_umask(tmp_path, writer):
    before = os.umask(0o027)
    try:
        WRITERS[writer](tmp_path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


def test_outputs_that_are_inputs_are_refused(tmp_path):
    photo, link, hard = (tmp_path / name for name in ("photo", "link", "hard"))
    photo.write_text("x")
    link.symlink_to(photo)
    os.link(photo, hard)
    for output, source in [(photo, photo), (link, photo), (photo, link), (hard, photo), (photo, hard)]:
        with pytest.raises(MediaError, match="will not be overwritten"), replacing([output], inputs=[tmp_path / "no", source]):
            pytest.fail("the block must not run")
    with replacing([tmp_path / "new", tmp_path / "no"], inputs=[photo, tmp_path / "no"]):
        pass  # what isn't there is nobody's input


def test_what_was_replaced_is_told_once(tmp_path):
    told: list[str] = []
    old, kept, new = (tmp_path / name for name in ("old", "kept", "new"))
    old.write_text("old"), kept.write_text("old")
    with replacing([old, kept, new], inputs=[], tell=told.append):
        for path in (old, new):
            with atomic_output(path):
                pass
    assert told == [f"{old}: an older file was replaced."]
    with pytest.raises(MediaError, match="old exists already"), replacing([new.with_name("none"), old], inputs=[], clobber=False):
        pytest.fail("the block must not run")


def test_a_video_does_not_replace_its_sound(tmp_path, short_driving):
    copy = tmp_path / "talk.mp4"
    shutil.copy(short_driving, copy)
    with (
        pytest.raises(MediaError, match="will not be overwritten"),
        VideoWriter(copy, fps=25, size=(64, 64), audio_from=copy),
    ):
        pytest.fail("the block must not run")
    assert copy.read_bytes() == short_driving.read_bytes()
