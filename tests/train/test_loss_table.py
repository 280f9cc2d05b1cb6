"""The table of losses: configs, objective, log and page say what it says."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmfa.errors import ConfigError
from mmfa.train.config import TrainConfig
from mmfa.train.loss_table import LOSSES, STAGES, LossWeights, markdown
from mmfa.train.shipped import config_path, names
from mmfa.train.trainer import Trainer

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
CONFIG = TrainConfig(data="data", output="output")


def test_each_loss_is_a_key_of_the_config_with_the_tables_weight() -> None:
    keys = {row.name for row in fields(TrainConfig) if row.name.startswith("loss_")}
    assert keys == {loss.key for loss in LOSSES.values()} | {"loss_keypoint_final"}
    assert CONFIG.weights() == {name: loss.weight for name, loss in LOSSES.items()}
    assert all(loss.equation if loss.source != "ours" else not loss.symbol for loss in LOSSES.values())


def test_weights_are_the_configs_and_that_of_keypoints_decays() -> None:
    config = replace(CONFIG, loss_gan=0.25, loss_keypoint=8.0, loss_keypoint_final=2.0)
    assert config.weights()["gan"] == 0.25 and config.weights()["keypoint"] == 8
    assert config.weights(0.2)["keypoint"] == pytest.approx(2 + 6 / 2.718281828459045)
    assert config.weights(1.0)["keypoint"] == pytest.approx(2, abs=0.05)


def test_the_page_shows_the_table() -> None:
    assert markdown() in PAGE.read_text(encoding="utf-8"), f"docs/training.md wants:\n\n{markdown()}"


@pytest.mark.parametrize("name", names())
def test_configs_say_of_a_loss_what_the_table_says(name: str) -> None:
    for line in config_path(name).read_text(encoding="utf-8").splitlines():
        found = re.match(r"loss_(\w+): *(\S+) *# (.*)", line)
        if found and found[1] in LOSSES and float(found[2]):
            assert found[3] == LOSSES[found[1]].comment, line


@pytest.mark.parametrize("model", ["tiny", "tiny-paper"])
def test_the_objective_measures_what_the_table_says(config: TrainConfig, model: str, faceres: Path) -> None:
    """Every loss on, one after the other off, and the three stages; perceptual networks are stood in for."""
    on = {loss.key: 1.0 for loss in LOSSES.values() if loss.name not in ("perceptual", "face")}
    config = replace(config, model=model, anchor_steps=0, window=1.0, **on)  # type: ignore[arg-type]
    trainer = Trainer(config, quiet=True)
    batch = trainer.data.batch(trainer.data.draw(2, torch.Generator().manual_seed(0)))
    trainer.model.eval()

    def features(image: Tensor) -> list[Tensor]:
        return [image]

    def measured(changed: TrainConfig, *, draw: bool, adversarial: bool) -> set[str]:
        objective = trainer.objective
        objective.config = changed
        objective.networks = replace(objective.networks, perceptual=features, face=features)
        with torch.no_grad():
            return set(objective(batch, trainer.discriminator if adversarial else None, draw=draw).losses)

    anchored = model == "tiny"
    config = replace(config, loss_perceptual=1.0, loss_face=1.0)
    other = "free" if anchored else "anchored"
    assert measured(config, draw=True, adversarial=True) == {n for n, loss in LOSSES.items() if loss.keypoints != other}
    for draw, adversarial, stages in ((False, False, STAGES[:1]), (True, False, STAGES[:2])):
        found = measured(config, draw=draw, adversarial=adversarial)
        assert found == {n for n, loss in LOSSES.items() if loss.keypoints != other and loss.stage in stages}
    off = replace(config, **{loss.key: 0.0 for loss in LOSSES.values()})  # type: ignore[arg-type]
    assert measured(off, draw=True, adversarial=True) == {
        n for n, loss in LOSSES.items() if loss.keypoints != other and loss.always
    }


@pytest.mark.parametrize("key", [row.name for row in fields(LossWeights)])
def test_weights_are_not_negative(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} must be 0 or more, not -1"):
        replace(CONFIG, **{key: -1.0})  # type: ignore[arg-type]
