"""Configurations that others wrote: one sentence, whatever is in the file, and no memory for it."""

import time
from pathlib import Path

import pytest

from mmfa.errors import ConfigError, MediaError
from mmfa.train.config import TrainConfig
from mmfa.train.shipped import with_values

BASE = "data: a\noutput: b\n"


def bomb() -> str:
    """10^9 words behind nine aliases, as the value of a known key."""
    text = "freeze:\n- &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
    return text + "".join(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (bomb(), "aliases of lists and keys are not taken"),
        ("a: &a {b: 1}\n<<: *a\n", "aliases of lists and keys are not taken"),
        ("freeze: " + "[" * 20_000 + "]" * 20_000, "nested more than 10 deep"),
        ("freeze: " + "- " * 20_000 + "a", "is not YAML"),
        ("a: " + "{a: " * 5000 + "1" + "}" * 5000, "nested more than 10 deep"),
        ("seed: 2001-99-99", "is not YAML"),
        (f"seed: {'9' * 5000}", "is not YAML"),
        (f"steps: [{'a, ' * 10_000}]", "steps must be of type int"),
        (f"device: {'a' * 100_000}", "device must be"),
        (f"{'k' * 900}: 1", "unknown key"),
        ("learning_rate: .inf", "learning_rate must be a number of 0 or more, not inf"),
        ("loss_prior: .nan", "loss_prior must be 0 or more, not nan"),
        ("a" * 2_000_000, "more than 1,000,000 bytes"),
    ],
)
def test_hostile_files_are_refused_in_a_short_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(BASE + text + "\n")
    start = time.process_time()
    with pytest.raises(ConfigError, match=said) as caught:
        TrainConfig.load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 450 and "\n" not in str(caught.value)
    assert time.process_time() - start < 10


def test_an_alias_of_a_value_is_taken(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(BASE + "batch: &b 8\nanchor_batch: *b\n")
    assert TrainConfig.load(tmp_path / "c.yaml").anchor_batch == 8


def test_a_device_is_no_configuration() -> None:
    with pytest.raises(MediaError, match="not a regular file"):
        TrainConfig.load("/dev/zero")


def test_keys_of_older_configs_mean_what_they_meant(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(BASE + "judge_rate: 1.5\ntransformed_driver: false\nloss_ssl: 1\n")
    config = TrainConfig.load(tmp_path / "c.yaml")
    assert config == TrainConfig(data="a", output="b", discriminator_rate=1.5, loss_ssl=1)
    assert with_values(config, ["judge_rate=3"]).discriminator_rate == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("judge_rate: 1\ndiscriminator_rate: 2", "judge_rate is the former name of discriminator_rate: give one of them"),
        ("judge_rate: -1", "discriminator_rate must be a number of 0 or more"),
        ("transformed_driver: true", "unknown key 'transformed_driver'"),
        ("transformed_driver: 0", "unknown key 'transformed_driver'"),
    ],
)
def test_older_keys_that_mean_nothing_today_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.yaml").write_text(BASE + text + "\n")
    with pytest.raises(ConfigError, match=f"c.yaml: .*{said}"):
        TrainConfig.load(tmp_path / "c.yaml")
