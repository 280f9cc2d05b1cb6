"""``mmfa train-vae``, ``interpolate`` and ``sample`` as a user types them."""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmfa
from mmfa.cli import common, vae
from mmfa.cli.common import in_options, perform, request_from
from mmfa.errors import MmfaError
from mmfa.expressions import NAMES, ExpressionSpace
from mmfa.media.image import Array, read_image
from mmfa.media.video import VideoReader
from mmfa.session import Session


@pytest.fixture(autouse=True)
def _model_loaded_once(animator, monkeypatch) -> None:
    monkeypatch.setattr(Session, "from_pretrained", classmethod(lambda cls, *a, **k: animator.session))


def run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    vae.add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args([str(argument) for argument in arguments])
    if hasattr(options, "request"):
        perform(request_from(options), quiet=options.quiet, word=in_options(options.parser))
    else:
        options.run(options)


def refused(folder: Path, *arguments: object) -> str:
    """One sentence, and nothing left behind."""
    before = sorted(folder.iterdir())
    with pytest.raises(MmfaError) as caught:
        run(*arguments)
    assert sorted(folder.iterdir()) == before
    text = str(caught.value)
    assert "\n" not in text and text.endswith((".", ")", "?"))
    return text


def tiles(sheet: Array, columns: int, rows: int) -> list[list[Array]]:
    """The pictures of a sheet with gaps of 4 pixels."""
    height, width = (sheet.shape[0] + 4) // rows - 4, (sheet.shape[1] + 4) // columns - 4
    assert height == width == 256
    return [[sheet[y * 260 : y * 260 + 256, x * 260 : x * 260 + 256] for x in range(columns)] for y in range(rows)]


def difference(a: Array, b: Array) -> float:
    return float(np.abs(a.astype(float) - b).mean())


def test_interpolation_sheet_ends_at_its_waypoints(portrait, carphone, animator, tmp_path) -> None:
    out = tmp_path / "grid.png"
    way = ("--from", "source", "--via", f"{carphone}@2", "--to", "neutral")
    run("interpolate", portrait, *way, "--steps", 2, "-o", out, "--quiet")
    first, second = tiles(read_image(out), 3, 2)
    own = animator.set_source(portrait).signal
    assert difference(first[0], next(animator.render(own, paste_back=False))) < 0.05  # rendered in another batch
    assert difference(first[-1], second[0]) < 0.5  # the waypoint, at the end of one row and the start of the next
    halfway, whole = difference(first[0], first[1]), difference(first[0], first[2])
    assert 0 < halfway < whole
    assert difference(second[0], second[2]) > 0.2


def test_pose_of_a_waypoint(portrait, carphone, tmp_path) -> None:
    sheets = {}
    for pose in ("keep", "B"):
        out = tmp_path / f"{pose}.png"
        way = ("--from", "source", "--to", f"{carphone}@3.5", "--steps", 1)
        run("interpolate", portrait, *way, "--pose", pose, "-o", out, "--quiet")
        sheets[pose] = tiles(read_image(out), 2, 1)[0]
    assert difference(sheets["keep"][0], sheets["B"][0]) > 3  # another head pose
    assert difference(sheets["keep"][0], sheets["keep"][1]) < difference(sheets["keep"][0], sheets["B"][0])


def test_interpolation_video_towards_a_named_direction(portrait, tmp_path) -> None:
    out = tmp_path / "smile.mp4"
    run("interpolate", portrait, "--from", "source", "--to", "source", "--set", "jaw_open=-1", "--steps", 4, "-o", out, "--quiet")
    with VideoReader(out) as video:
        frames = [frame.image for frame in video]
    assert len(frames) == 5 and frames[0].shape == (512, 512, 3)
    assert difference(frames[0], frames[-1]) > difference(frames[0], frames[1])


def test_samples_repeat_by_seed(portrait, tmp_path) -> None:
    pictures = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run("sample", portrait, "--n", 3, "--seed", seed, "-o", tmp_path / f"{name}.png", "--quiet")
        pictures.append(read_image(tmp_path / f"{name}.png"))
    assert np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[0], pictures[2])
    (one, two), (three, blank) = tiles(pictures[0], 2, 2)
    assert min(difference(one, two), difference(two, three)) > 0.1 and blank.min() == 255


def test_sampled_video_loops(portrait, tmp_path) -> None:
    out = tmp_path / "walk.mp4"
    run("sample", portrait, "--seconds", 0.4, "--seed", 1, "--set", "smile=0.5", "-o", out, "--quiet")
    with VideoReader(out) as video:
        assert len(list(video)) == 10


def test_bad_words_are_refused(portrait, carphone, tmp_path) -> None:
    png, mp4 = tmp_path / "out.png", tmp_path / "out.mp4"
    way = ("interpolate", portrait, "--from", "source", "--to")
    assert "does not exist" in refused(tmp_path, *way, tmp_path / "nobody.jpg", "-o", png)
    assert "no frame at 99 s" in refused(tmp_path, *way, f"{carphone}@99", "-o", png)
    assert "no number of seconds" in refused(tmp_path, *way, f"{carphone}@later", "-o", png)
    assert "120 frames; say which one" in refused(tmp_path, *way, carphone, "-o", png)
    assert "--steps" in refused(tmp_path, *way, "neutral", "--steps", 0, "-o", png)
    assert "too large" in refused(tmp_path, *way, "neutral", "--steps", 5000, "-o", png)
    assert "did you mean smile?" in refused(tmp_path, "sample", portrait, "--set", "smirk=1", "-o", png)
    assert "choose from jaw_open" in refused(tmp_path, "sample", portrait, "--set", "xyz=1", "-o", png)
    assert "end elsewhere than neutral" in refused(tmp_path, *way, "neutral", "--set", "smile=1", "-o", png)
    assert "smile=0.8" in refused(tmp_path, "sample", portrait, "--set", "smile", "-o", png)
    assert "makes no sense" in refused(tmp_path, "sample", portrait, "--set", "smile=1e9", "-o", png)
    assert "temperature" in refused(tmp_path, "sample", portrait, "--temperature", 9, "-o", png)
    assert "--n lies between" in refused(tmp_path, "sample", portrait, "--n", 0, "-o", png)
    assert "--seconds lies between" in refused(tmp_path, "sample", portrait, "--seconds", "nan", "-o", mp4)
    assert "--n counts" in refused(tmp_path, "sample", portrait, "--n", 4, "-o", mp4)
    assert "--seconds is the length" in refused(tmp_path, "sample", portrait, "--seconds", 4, "-o", png)
    assert "--seed" in refused(tmp_path, "sample", portrait, "--seed", -1, "-o", png)
    assert "unknown suffix" in refused(tmp_path, "sample", portrait, "-o", tmp_path / "out.txt")


def test_waypoints_that_are_no_faces(portrait, tmp_path) -> None:
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(noise)
    text = refused(tmp_path, "interpolate", portrait, "--from", noise, "--to", "neutral", "-o", tmp_path / "out.png")
    assert "No face found in" in text and "noise.png" in text


def test_a_vae_of_other_weights_is_refused(portrait, tmp_path) -> None:
    folder = Path(shutil.copytree(Path(mmfa.__file__).parent / "models" / "lite", tmp_path / "lite"))
    config = (folder / "vae.json").read_text()
    (folder / "vae.json").write_text(config.replace(ExpressionSpace.load("lite").owner, "0" * 64))
    text = refused(tmp_path, "sample", portrait, "--model", folder, "-o", tmp_path / "out.png")
    assert "belongs to other weights of the model" in text


def test_the_help_names_all_directions() -> None:
    assert ", ".join(NAMES) == common.DIRECTIONS


def test_train_vae_without_a_config(tmp_path) -> None:
    assert "does not exist" in refused(tmp_path, "train-vae", tmp_path / "none.yaml")
