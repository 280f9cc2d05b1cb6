"""What the objective shows to the networks that judge, and which faces it asks about what."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmfa.geometry import similarity
from mmfa.portrait import FaceInput
from mmfa.train.config import TrainConfig
from mmfa.train.data import Batch
from mmfa.train.objective import grey, without_inside
from mmfa.train.trainer import Trainer


def test_grey_is_the_luma_three_times() -> None:
    image = torch.zeros(1, 3, 4, 4)
    image[:, 1] = 1.0
    torch.testing.assert_close(grey(image), torch.full((1, 3, 4, 4), 0.587))
    torch.testing.assert_close(grey(torch.ones(1, 3, 4, 4)), torch.ones(1, 3, 4, 4))


def test_the_inside_of_a_mouth_is_shown_but_takes_no_gradient() -> None:
    openings = torch.full((1, 4, 16, 16), -0.5)
    openings[:, 0, 4:12, 4:12] = 0.3  # the driving mouth
    openings[:, 1:, :2, :2] = 0.3  # an eye, and what the photo has
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    shown = without_inside(image, openings)
    assert torch.equal(shown, image)
    shown.sum().backward()
    assert image.grad is not None
    assert not image.grad[..., 22:42, 22:42].any(), "inside"
    assert bool((image.grad[..., :12, :] == 1).all() and (image.grad[..., 54:, :] == 1).all()), "all around, eyes included"


def test_a_closed_mouth_and_a_model_without_outlines_take_all_of_it() -> None:
    for openings in (None, torch.full((1, 4, 16, 16), 0.01)):
        image = torch.rand(1, 3, 64, 64, requires_grad=True)
        without_inside(image, openings).sum().backward()
        assert image.grad is not None and bool((image.grad == 1).all())


# -- the three losses on motion: each compares two faces, and which two matters --------------------------------------------


@pytest.fixture
def trainer(config: TrainConfig) -> Trainer:
    """Untrained, with L_ssl, L_id and L_E on."""
    torch.manual_seed(0)
    trainer = Trainer(replace(config, anchor_steps=0, loss_ssl=1.0, loss_identity=1.0, loss_equivariance=1.0), quiet=True)
    trainer.model.eval()
    return trainer


@pytest.fixture
def batch(trainer: Trainer) -> Batch:
    """Four pairs whose driving picture is turned by 15 degrees, shrunk and shifted for I_d'."""
    drawn = trainer.data.batch(trainer.data.draw(4, torch.Generator().manual_seed(0), candidates=4))
    one = similarity(torch.tensor([15.0]), torch.tensor([0.9]), torch.tensor([[0.1, -0.05]]))
    return replace(drawn, transform=one.expand(4, -1, -1))


def which(batch: Batch, face: FaceInput) -> str:
    """Which picture a face is of: the source, the driving one, or, made of the latter, the transformed one."""
    for name in ("source", "driving"):
        if torch.equal(face.image, getattr(batch, name).image):
            return name
    return "transformed"


def losses_with(trainer: Trainer, batch: Batch, monkeypatch: pytest.MonkeyPatch, **shifts: float) -> dict[str, float]:
    """The losses when the networks say something else of single pictures.

    `canonical_NAME` is added to x of the canonical keypoints of that picture; `expression_NAME` turns that picture's expression
    feature towards another direction, by that angle in radians.
    """
    model = trainer.model
    canonical, motion = type(model).canonical, type(model).motion

    def shifted(self: object, face: FaceInput) -> Tensor:
        return canonical(model, face) + torch.tensor([shifts.get(f"canonical_{which(batch, face)}", 0.0), 0.0, 0.0])

    def turned(self: object, face: FaceInput) -> object:
        found = motion(model, face)
        angle = torch.tensor(shifts.get(f"expression_{which(batch, face)}", 0.0))
        axes = torch.eye(found.expression.shape[1])
        return replace(found, expression=(angle.cos() * axes[0] + angle.sin() * axes[1]).expand(len(batch), -1))

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "canonical", shifted)
        if any(name.startswith("expression") for name in shifts):
            patch.setattr(type(model), "motion", turned)
        with torch.no_grad():
            return {name: float(value) for name, value in trainer.objective(batch).losses.items()}


def test_the_expression_of_the_driving_picture_is_compared_with_that_of_the_transformed_one(trainer, batch, monkeypatch) -> None:
    """L_ssl, eq. 7: 1 - cos of the angle between the two; compared with itself, f would cost nothing whatever it is."""
    for angle in (0.0, 0.5, 1.5):
        wanted = pytest.approx(1 - math.cos(angle), abs=1e-5)
        assert losses_with(trainer, batch, monkeypatch, expression_transformed=angle)["ssl"] == wanted
        assert losses_with(trainer, batch, monkeypatch, expression_driving=angle)["ssl"] == wanted
        assert losses_with(trainer, batch, monkeypatch, expression_source=angle)["ssl"] == pytest.approx(0, abs=1e-5)


def test_canonical_keypoints_of_the_transformed_picture_are_estimated_anew(trainer, batch, monkeypatch) -> None:
    """L_E, eq. 15: what x_c is said to be in the transformed picture counts; with the source's it would not be asked for."""
    plain = losses_with(trainer, batch, monkeypatch)
    moved = losses_with(trainer, batch, monkeypatch, canonical_transformed=0.2)
    assert moved["equivariance"] > plain["equivariance"] + 0.02
    assert moved["identity"] == plain["identity"] and moved["keypoint"] == plain["keypoint"]


def test_canonical_keypoints_of_source_and_driving_picture_are_compared(trainer, batch, monkeypatch) -> None:
    """L_id, eq. 8: 0.3 in one of three coordinates is 0.1 in the mean; before training x_c are the same anchors for all."""
    assert losses_with(trainer, batch, monkeypatch)["identity"] == pytest.approx(0, abs=1e-5)
    for name in ("source", "driving"):
        moved = losses_with(trainer, batch, monkeypatch, **{f"canonical_{name}": 0.3})
        assert moved["identity"] == pytest.approx(0.1, abs=1e-5)
    both = losses_with(trainer, batch, monkeypatch, canonical_source=0.3, canonical_driving=0.3)
    assert both["identity"] == pytest.approx(0, abs=1e-5)
