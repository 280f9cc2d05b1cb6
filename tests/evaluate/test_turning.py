"""benchmarks/turning.py: what the detector's points say of a turn, and how slopes are pooled."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mmfa.errors import FaceError
from mmfa.faces import PixelFace, crop_box
from mmfa.geometry import similarity, transform_image
from mmfa.media.crop import crop
from mmfa.media.image import read_image, to_tensor, to_uint8
from mmfa.priors.detector import FaceDetector
from mmfa.priors.landmarks import FaceTracker
from mmfa.registry import build


@pytest.fixture(scope="module")
def turning() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "turning.py"
    spec = importlib.util.spec_from_file_location("turning", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figures_turn_with_the_head_and_change_sides_in_a_mirror(turning, portrait) -> None:
    detector, photo = FaceDetector(), read_image(portrait)
    face = FaceTracker().track(photo)
    assert face is not None
    picture = crop(photo, crop_box(PixelFace.of(face, photo)), size=256)
    below, beside = turning.figures(detector, picture)
    assert 0.3 < below < 0.8 and abs(beside) < 0.3
    mirrored = turning.figures(detector, np.ascontiguousarray(picture[:, ::-1]))
    assert mirrored == pytest.approx((below, -beside), abs=0.05)
    turn = similarity(torch.tensor([15.0]), torch.tensor([1.0]), torch.zeros(1, 2))
    tilted = to_uint8(transform_image(to_tensor(picture)[None], turn))[0]
    assert turning.figures(detector, tilted) == pytest.approx((below, beside), abs=0.06)
    assert turning.figures(detector, np.full((64, 64, 3), 128, dtype=np.uint8)) is None


def test_people_who_cannot_be_measured_are_a_sentence(turning, portrait, clip_writer, tmp_path, monkeypatch) -> None:
    photo = read_image(portrait)
    face = FaceTracker().track(photo)
    assert face is not None
    picture = crop(photo, crop_box(PixelFace.of(face, photo)), size=128)
    (tmp_path / "data" / "man").mkdir(parents=True)
    clip_writer(tmp_path / "data" / "man" / "short.mp4", [picture] * 4, fps=8, sound=False)
    monkeypatch.setattr(turning, "from_pretrained", lambda name: build("tiny").eval())
    words = [str(tmp_path / "data"), "--cache", str(tmp_path / "cache"), "--split", "train", "--quiet"]
    monkeypatch.setattr("sys.argv", ["turning", *words])
    with pytest.raises(FaceError, match=r"data: none of the 1 people can be measured, because .* four frames"):
        turning.main()


def test_the_slope_is_pooled_and_no_persons_mean_counts(turning) -> None:
    """One person's slope is 2 over four times the other's spread, whose slope is 1: (2 * 8 + 1 * 2) / 10."""
    people = []
    for slope, spread, offset in ((2.0, 2.0, 5.0), (1.0, 1.0, -7.0)):
        angles = [-spread, 0.0, spread]
        row = turning.sums(angles, [slope * angle + offset for angle in angles])
        people.append(np.array([[0.0, 1.0], row]))
    assert turning.slope(people, 1) == pytest.approx(1.8)
    assert turning.slope(people, 0) == 0
