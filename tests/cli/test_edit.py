"""``mmfa edit`` and ``mmfa canonical`` as a user types them."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mmfa import edit, requests
from mmfa.cli import edit as command
from mmfa.cli import main as program
from mmfa.edit import canonical_motion, set_pose
from mmfa.expressions import ExpressionSpace
from mmfa.geometry import matrix_to_euler
from mmfa.media.image import read_image
from mmfa.media.video import VideoReader
from mmfa.motion import Motion
from mmfa.session import Session


@pytest.fixture(autouse=True)
def _commands(animator, monkeypatch) -> None:
    """These commands alone, on a model that is loaded once."""
    parser = argparse.ArgumentParser(prog="mmfa")
    command.add_parser(parser.add_subparsers(required=True))
    monkeypatch.setattr(program, "_parser", lambda: parser)
    monkeypatch.setattr(Session, "from_pretrained", classmethod(lambda cls, *a, **k: animator.session))


@pytest.fixture
def own(animator, portrait) -> Motion:
    """The motion of the portrait."""
    return animator.set_source(portrait).signal


@pytest.fixture(scope="module")
def driving(carphone_frames, clip_writer, tmp_path_factory) -> Path:
    """Eight frames at 10 fps, with sound."""
    path = tmp_path_factory.mktemp("clip") / "talk.mp4"
    clip_writer(path, carphone_frames[:64:8], fps=10, sound=True)
    return path


@pytest.fixture
def clip_file(own, tmp_path) -> Path:
    """A motion file of ten frames at 10 fps in which the portrait does nothing."""
    motion = own.expand(10)
    Motion(**{name: getattr(motion, name) for name in ("rotation", "scale", "translation", "expression")}, fps=10.0).save(
        tmp_path / "still.safetensors"
    )
    return tmp_path / "still.safetensors"


def run(*arguments: object) -> int:
    return program.main([str(argument) for argument in arguments] + ["--quiet", "--device", "cpu"])


def refused(capsys, *arguments: object) -> str:
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("mmfa: "), lines
    return lines[0]


def frames(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as video:
        return [frame.image.astype(int) for frame in video]


# -- what comes out -----------------------------------------------------------------------------------------------------


def test_still_by_hand(animator, own, portrait, tmp_path, capsys) -> None:
    assert run("edit", portrait, "-o", tmp_path / "out.png", "--yaw", "15") == 0
    assert capsys.readouterr().err == ""
    wanted = next(animator.render(set_pose(own, yaw=15.0)))
    assert wanted.shape == read_image(portrait).shape
    assert np.array_equal(read_image(tmp_path / "out.png"), wanted)


def test_take_from_a_photo(animator, own, portrait, carphone_frames, tmp_path) -> None:
    Image.fromarray(carphone_frames[60]).save(tmp_path / "driver.png")
    assert run("edit", portrait, "-o", tmp_path / "out.png", "--from", tmp_path / "driver.png", "--take", "rotation") == 0
    driver = animator.session.track_photo(carphone_frames[60]).signal
    pitch, yaw, roll = (float(angle) for angle in matrix_to_euler(driver.rotation))
    wanted = next(animator.render(set_pose(own, pitch=pitch, yaw=yaw, roll=roll)))
    assert np.abs(read_image(tmp_path / "out.png").astype(int) - wanted).max() <= 2


def test_video_keeps_length_rate_and_sound(portrait, driving, tmp_path) -> None:
    assert run("edit", portrait, "-o", tmp_path / "out.mp4", "--from", driving, "--take", "expression", "--lips", "1.2") == 0
    with VideoReader(tmp_path / "out.mp4") as video:
        assert video.info.fps == 10 and video.info.has_audio and sum(1 for _ in video) == 8


def test_time_range_leaves_the_rest_alone(portrait, clip_file, tmp_path) -> None:
    plain, edited = tmp_path / "plain.mp4", tmp_path / "edited.mp4"
    assert run("edit", portrait, "-o", plain, "--from", clip_file) == 0
    assert run("edit", portrait, "-o", edited, "--from", clip_file, "--yaw", "25", "--at", "0.4:0.8") == 0
    change = [np.abs(a - b).mean() for a, b in zip(frames(plain), frames(edited), strict=True)]
    assert len(change) == 10
    assert change[6] > 2 * max(*change[:5], change[9]), change  # outside it is only the codec


def test_expression_of_a_moment_and_neutral(animator, own, portrait, driving, tmp_path) -> None:
    assert run("edit", portrait, "-o", tmp_path / "a.png", "--expression", f"{driving}@0.3") == 0
    assert run("edit", portrait, "-o", tmp_path / "b.png", "--expression", "neutral") == 0
    assert run("edit", portrait, "-o", tmp_path / "c.png", "--intensity", "0") == 0
    a, b, c = (read_image(tmp_path / f"{name}.png") for name in "abc")
    assert np.array_equal(b, c) and not np.array_equal(a, b)
    animator.session.track_at(driving, 0.3).signal.save(tmp_path / "smile.safetensors")
    assert run("edit", portrait, "-o", tmp_path / "d.png", "--expression", tmp_path / "smile.safetensors") == 0
    assert np.array_equal(read_image(tmp_path / "d.png"), a)


def test_relative_motion_of_one_attribute(portrait, driving, tmp_path) -> None:
    options = ["--from", driving, "--mode", "relative", "--take", "rotation", "--smooth", "0"]
    assert run("edit", portrait, "-o", tmp_path / "out.mp4", *options) == 0
    assert len(frames(tmp_path / "out.mp4")) == 8


def test_turntable_video_and_grid(portrait, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(requests.edit, "turntable", lambda motion, turn=edit.turntable: turn(motion, seconds=0.12))
    monkeypatch.setattr(requests.edit, "attribute_grid", lambda motion, grid=edit.attribute_grid: grid(motion, columns=3))
    assert run("edit", portrait, "-o", tmp_path / "t.mp4", "--turntable") == 0
    assert run("edit", portrait, "-o", tmp_path / "t.png", "--turntable") == 0
    assert len(frames(tmp_path / "t.mp4")) == 9
    assert read_image(tmp_path / "t.png").shape == (5 * 260 - 4, 3 * 260 - 4, 3)


def test_canonical_sheet(animator, own, portrait, tmp_path) -> None:
    assert run("canonical", portrait, portrait, "-o", tmp_path / "sheet.png") == 0
    sheet = read_image(tmp_path / "sheet.png")
    assert sheet.shape == (516, 516, 3)
    assert np.array_equal(sheet[260:, :256], next(animator.render(canonical_motion(own), paste_back=False)))
    assert np.array_equal(sheet[:, :256], sheet[:, 260:])


# -- ranges -------------------------------------------------------------------------------------------------------------


def test_ranges_warn_once_and_clip(portrait, tmp_path, capsys) -> None:
    assert run("edit", portrait, "-o", tmp_path / "far.png", "--yaw", "60") == 0
    warning = capsys.readouterr().err.splitlines()
    assert len(warning) == 1 and "yaw 60" in warning[0] and "clipped to 35" in warning[0]
    assert run("edit", portrait, "-o", tmp_path / "edge.png", "--yaw", "35") == 0
    assert capsys.readouterr().err == ""
    assert run("edit", portrait, "-o", tmp_path / "free.png", "--yaw", "60", "--unclipped") == 0
    assert "kept" in capsys.readouterr().err
    far, edge, free = (read_image(tmp_path / f"{name}.png") for name in ("far", "edge", "free"))
    assert np.array_equal(far, edge) and not np.array_equal(far, free)


# -- bad input: one sentence, status 2, no file -------------------------------------------------------------------------


def saved(path: Path, motion: Motion, *, version: str = "2", **changes: torch.Tensor) -> Path:
    names = ("rotation", "scale", "translation", "expression", "intensity")
    tensors = {name: getattr(motion, name).contiguous() for name in names} | changes
    save_file(tensors, str(path), metadata={"format": "mmfa-motion", "version": version})
    return path


def test_bad_drivers(own, portrait, clip_writer, tmp_path, capsys) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
    Image.fromarray(noise[0]).save(tmp_path / "noise.png")
    clip_writer(tmp_path / "noise.mp4", list(noise), fps=25, sound=False)
    (tmp_path / "talk.mp4").write_text("I am no video.")
    clip, width = own.expand(3), own.expression.shape[1]
    drivers = {
        tmp_path / "noise.png": "No face found in",
        tmp_path / "noise.mp4": "No face found in",
        tmp_path / "talk.mp4": "neither a motion file, nor a video, nor a picture",
        tmp_path / "none.mp4": "does not exist",
        tmp_path: "is a folder",
        saved(tmp_path / "v.safetensors", clip, version="7"): "version 7",
        saved(tmp_path / "n.safetensors", clip, expression=torch.zeros(3, 5)): f"has 5 expression features, this model {width}",
        saved(tmp_path / "nan.safetensors", clip, scale=torch.full((3, 1), float("nan"))): "not numbers",
        saved(tmp_path / "loud.safetensors", clip, intensity=torch.full((3, 1), 1e9)): "1e+09 in its intensity",
    }
    for driver, word in drivers.items():
        output = tmp_path / ("out.png" if driver.name in ("noise.png", "talk.mp4") else "out.mp4")
        message = refused(capsys, "edit", portrait, "-o", output, "--from", driver)
        assert word in message and not output.exists(), message
    assert "No face found in" in refused(capsys, "canonical", tmp_path / "noise.png", "-o", tmp_path / "out.png")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--take", "expresion"], "did you mean expression?"),
        (["--at", "3:9"], "outside the motion, which lasts 1.00 s"),
        (["--at", "0.5:0.2"], "ends before it starts"),
        (["--at", "soon"], "START:END"),
        (["--at", "a:b"], "no number of seconds"),
        (["--intensity", "1e9"], "intensity makes no sense"),
        (["--intensity", "1e9", "--unclipped"], "intensity makes no sense"),
        (["--yaw", "nan"], "yaw makes no sense"),
        (["--lips", "-1"], "lips makes no sense"),
        (["--smooth", "2"], "between 0 (off) and 1"),
        (["--mode", "rotaton=absolute"], "did you mean rotation?"),
        (["--expression", "neutral", "--intensity", "1"], "no intensity"),
        (["--expression", "no.png"], "does not exist"),
        (["--turntable"], "one pose"),
    ],
)
def test_options_that_make_no_sense(clip_file, portrait, tmp_path, capsys, options, word) -> None:
    message = refused(capsys, "edit", portrait, "-o", tmp_path / "out.mp4", "--from", clip_file, *options)
    assert word in message and not (tmp_path / "out.mp4").exists()


def test_what_does_not_fit_together(clip_file, driving, portrait, tmp_path, capsys) -> None:
    picture, video = tmp_path / "out.png", tmp_path / "out.mp4"
    cases = [
        (["-o", video], "a picture: name one"),
        (["-o", picture, "--from", driving], "a video: name one"),
        (["-o", tmp_path / "out.txt"], "unknown suffix"),
        (["-o", tmp_path / "no" / "out.png"], "does not exist"),
        (["-o", picture, "--take", "scale"], "name it with --from"),
        (["-o", picture, "--at", "0:1"], "a time range of a clip"),
        (["-o", picture, "--from", portrait, "--mode", "relative"], "relative motion needs a clip"),
        (["-o", picture, "--expression", driving], "@SECONDS"),
        (["-o", picture, "--expression", f"{driving}@99"], "no frame at 99 s"),
        (["-o", picture, "--expression", f"{driving}@-1"], "no frame at -1 s"),
        (["-o", picture, "--expression", f"{clip_file}@inf"], "no number of seconds"),
    ]
    for options, word in cases:
        message = refused(capsys, "edit", portrait, *options)
        assert word in message, message
    assert "canonical faces are a picture" in refused(capsys, "canonical", portrait, "-o", video)
    assert not picture.exists() and not video.exists()


def test_a_clip_for_one_expression_is_refused_before_it_is_tracked(portrait, driving, tmp_path, capsys, monkeypatch) -> None:
    def track(*_: object, **__: object) -> None:
        raise AssertionError("the clip was tracked")

    monkeypatch.setattr(Session, "track", track)
    message = refused(capsys, "edit", portrait, "-o", tmp_path / "out.png", "--expression", driving)
    assert f"{driving} has 8 frames; say which one, as {driving}@SECONDS" in message


# -- named directions ---------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch) -> list[Motion]:
    """What the command would render, in place of rendering it."""
    seen: list[Motion] = []

    def render(self, photo, motion, **kwargs):
        seen.append(motion)
        yield from np.zeros((len(motion), *photo.image.shape), np.uint8)

    monkeypatch.setattr(Session, "render", render)
    monkeypatch.setattr(Session, "write", lambda self, photo, motion, output, **kwargs: seen.append(motion))
    return seen


def test_an_expression_is_set_by_name(own, portrait, tmp_path, asked) -> None:
    assert run("edit", portrait, "-o", tmp_path / "smile.png", "--set", "smile=1") == 0
    moved = (asked[0].expression - own.expression).norm() / own.expression.norm()
    assert float(moved) > 0.01 and torch.equal(asked[0].rotation, own.rotation)


def test_a_direction_holds_in_its_time_range(own, portrait, clip_file, tmp_path, asked) -> None:
    options = ["--from", clip_file, "--smooth", "0", "--set", "smile=1", "--at", "0.3:"]
    assert run("edit", portrait, "-o", tmp_path / "out.mp4", *options) == 0
    moved = (asked[0].expression - own.expression).norm(dim=1)
    assert torch.equal(moved[:4], torch.zeros(4))
    assert 0 < moved[4] < moved[5] < moved[6] and torch.allclose(moved[6:], moved[6])


def test_a_direction_moves_the_expression_that_is_set(own, portrait, clip_file, tmp_path, asked) -> None:
    other = Motion(**{**vars(own), "expression": own.expression + 1})
    other.save(tmp_path / "other.safetensors")
    for values in ([], ["--set", "smile=1"]):
        assert run("edit", portrait, "-o", tmp_path / "out.png", "--expression", tmp_path / "other.safetensors", *values) == 0
    offset = ExpressionSpace.load("lite", model=None).offset({"smile": 1.0})
    torch.testing.assert_close(asked[0].expression, other.expression)
    torch.testing.assert_close(asked[1].expression, other.expression + offset)


def test_a_direction_beyond_the_data_is_clipped(own, portrait, tmp_path, asked, capsys) -> None:
    for values in ("smile=2", "smile=2.5"):
        assert run("edit", portrait, "-o", tmp_path / "out.png", "--set", values) == 0
    assert "smile 2.5 is beyond the -2 to 2" in capsys.readouterr().err
    assert run("edit", portrait, "-o", tmp_path / "out.png", "--set", "smile=2.5", "--unclipped") == 0
    edge, clipped, free = (motion.expression - own.expression for motion in asked)
    assert torch.equal(clipped, edge)
    torch.testing.assert_close(free, 1.25 * edge, atol=1e-5, rtol=1e-4)


def test_an_expression_by_its_code(own, portrait, tmp_path, asked, capsys) -> None:
    out = ["-o", tmp_path / "out.png"]
    assert run("edit", portrait, *out, "--expression", "code:0.5,-1.2") == 0
    space = ExpressionSpace.load("lite")
    code = torch.zeros(1, space.vae.params.code)
    code[0, :2] = torch.tensor([0.5, -1.2])
    torch.testing.assert_close(asked[0].expression, space.decode(code))
    assert torch.equal(asked[0].rotation, own.rotation) and float(asked[0].intensity) == 1
    for text, word in (
        ("code:", "is no code"),
        ("code:a", "is no code"),
        ("code:nan", "between -10"),
        ("code:" + "0," * 40 + "0", "up to"),
    ):
        assert word in refused(capsys, "edit", portrait, *out, "--expression", text)


def test_directions_that_make_no_sense(portrait, tmp_path, capsys) -> None:
    out = ["-o", tmp_path / "out.png"]
    assert "did you mean smile?" in refused(capsys, "edit", portrait, *out, "--set", "smlie=1")
    assert "smile=0.8" in refused(capsys, "edit", portrait, *out, "--set", "smile")
    assert "smile makes no sense" in refused(capsys, "edit", portrait, *out, "--set", "smile=9", "--unclipped")
    neutral = ["--expression", "neutral", "--set", "smile=1"]
    assert "doesn't move along a direction" in refused(capsys, "edit", portrait, *out, *neutral)
