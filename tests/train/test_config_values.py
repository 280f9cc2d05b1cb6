"""Values of a config that make no sense: one sentence that names the key, before any work, and nothing left behind."""

from dataclasses import replace

import pytest
import torch

from mmfa.cli.main import main
from mmfa.errors import ConfigError
from mmfa.train.config import TrainConfig
from mmfa.train.trainer import Trainer
from mmfa.train.vae import VAEConfig

CONFIG = TrainConfig(data="data", output="output")


@pytest.mark.parametrize(
    "name", ["learning_rate", "loss_gan", "colour_jitter", "transform_angle", "fps", "discriminator_rate", "minutes"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_numbers_are_finite_and_not_negative(name, value) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be"):
        replace(CONFIG, **{name: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data", ""),
        ("output", ""),
        ("seed", -1),
        ("seed", 2**70),
        ("threads", 10**6),
        ("workers", -1),
        ("workers", 10**6),
        ("batch", 10**9),
        ("candidates", 10**9),
        ("anchor_steps", -1),
        ("unfreeze_at", -5),
        ("gan_from", -5),
        ("cache_limit", 0.0),
    ],
)
def test_values_out_of_range_name_their_key(key, value) -> None:
    with pytest.raises(ConfigError, match=f"^{key} must"):
        replace(CONFIG, **{key: value})


def test_so_do_those_of_the_vae() -> None:
    for values in ({"loss_kl": float("inf")}, {"seed": -1}, {"threads": 10**6}, {"learning_rate": float("inf")}, {"output": ""}):
        with pytest.raises(ConfigError, match=f"^{next(iter(values))} must"):
            replace(VAEConfig(data="a", output="b", cache="c"), **values)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["perceptual=vgg-19", "loss_perceptual=1"], "did you mean 'vgg19'"),
        (["perceptual=vgg19", "loss_perceptual=1"], "vgg19-dcbb9e9d.pth not found"),
        (["face=faceres", "loss_face=1"], "faceres.safetensors not found"),
        (["loss_embedding=1"], "faceres.safetensors not found"),
        (["window=0", "loss_gan=1"], "window: 0 of 64 pixels are 0"),
        (["window=0.5", "loss_gan=1", "discriminator=paper"], "window: 0.5 of 64 pixels are 32, too few"),
        (["model=tinny"], "model must be"),
        (["freeze=generato"], "no network 'generato'"),
        (["init=nothing"], "Unknown model 'nothing'"),
        (["batch=6", "accumulate=4"], "multiple of accumulate"),
        (["split=test"], "no clip in the split 'test'"),
        (["data=nowhere"], "nowhere is not a folder"),
        (["device=mps"], "device: mps is not available"),
    ],
)
def test_what_a_machine_or_model_lacks_is_said_before_clips_are_decoded(
    clips, tmp_path, monkeypatch, capsys, words, reason
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    options = [word for text in [f"data={clips}", "output=runs/mine", *words] for word in ("--set", text)]
    assert main(["train", "tiny", "--quiet", *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("mmfa: ") and len(captured.err.splitlines()) == 1 and reason in captured.err
    assert not list(tmp_path.iterdir())


def test_too_little_memory_on_the_device_is_one_sentence(config, monkeypatch) -> None:
    def full(self: Trainer, batch: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Trainer, "_train_step", full)
    with pytest.raises(ConfigError, match="too small for 2 pairs at once; raise accumulate, or lower batch"):
        Trainer(replace(config, batch=4, accumulate=2, anchor_steps=0), quiet=True).run()


def test_until_is_a_step(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "tiny", "--until", "0"])
    assert stop.value.code == 2 and "--until: must be 1 or more" in capsys.readouterr().err
