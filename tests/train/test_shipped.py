"""The configs that come with the package: found by name from anywhere, shown, copied, and changed key by key."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import mmfa
from mmfa.cli.main import main
from mmfa.errors import ConfigError
from mmfa.registry import sizes
from mmfa.train.config import TrainConfig
from mmfa.train.shipped import about, config_path, names, state_path, with_values
from mmfa.train.trainer import Trainer
from mmfa.train.vae import VAEConfig

PACKAGE = Path(mmfa.__file__).parent
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", names())
def test_shipped_configs_load_and_explain_themselves(name) -> None:
    path = config_path(name)
    assert TrainConfig.load(path).model in sizes()
    lines = path.read_text().splitlines()
    assert any(line.endswith(f"mmfa train {name}") for line in lines[:3]), "the header holds the command"
    uncommented = [line for line in lines if not line.startswith("#") and "  # " not in line]
    assert not uncommented, "every key has a comment"


def test_every_config_is_packaged_and_named() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mmfa"]
    packed = {path for pattern in patterns for path in PACKAGE.glob(pattern) if path.suffix == ".yaml"}
    assert packed == set(PACKAGE.rglob("*.yaml"))
    assert packed == {config_path(name) for name in names()} | {config_path(name, vae=True) for name in names(vae=True)}
    assert {"finetune", "ablation/ssl"} <= set(names()) and names(vae=True) == ["lite"]


def test_list_and_print_from_another_folder(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == names() and all(about(name) in "\n".join(listed) for name in names())
    assert main(["train", "ablation/ssl", "--print"]) == 0
    Path("mine.yaml").write_text(capsys.readouterr().out)
    assert TrainConfig.load("mine.yaml") == TrainConfig.load(config_path("ablation/ssl"))
    assert config_path("mine.yaml") == Path("mine.yaml")
    assert main(["train-vae", "--list"]) == 0 and capsys.readouterr().out.startswith("lite ")
    assert main(["train-vae", "lite", "--print"]) == 0
    Path("vae.yaml").write_text(capsys.readouterr().out)
    assert VAEConfig.load("vae.yaml") == VAEConfig.load(config_path("lite", vae=True))


def test_what_is_no_text_is_not_printed(tmp_path, capsys) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(bytes(range(256)))
    assert main(["train", str(path), "--print"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"mmfa: {path} is not a text file.\n" and not captured.out


def test_a_shipped_config_with_other_keys_trains_in_the_folder_one_is_in(clips, cache, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = {"data": clips, "cache": cache, "fps": 8, "batch": 2, "anchor_steps": 1, "anchor_batch": 4, "tensorboard": "false"}
    options = [word for key, value in words.items() for word in ("--set", f"{key}={value}")]
    assert main(["train", "tiny", "--quiet", "--until", "1", *options]) == 0
    assert (tmp_path / "runs" / "tiny" / "model" / "config.json").is_file()


def test_values_are_read_as_their_key_wants_them() -> None:
    config = TrainConfig(data="a", output="b")
    words = ["steps=7", "learning_rate=3e-4", "freeze=affine, generator", "tensorboard=false", "data=x=y", "cache=", "batch=6"]
    wanted = replace(config, steps=7, learning_rate=3e-4, data="x=y", cache="", batch=6)
    assert with_values(config, words) == replace(wanted, freeze=("affine", "generator"), tensorboard=False)
    assert with_values(config, ["batch=6", "accumulate=3"]).accumulate == 3, "together: neither order of the two would do"
    assert with_values(config, ["freeze="]).freeze == ()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["finetun"], "did you mean 'finetune'"),
        (["nothing-like-it"], "neither a file nor a config that comes with mmfa"),
        (["configs/ablation/ssl.yaml"], "comes with mmfa: mmfa train ablation/ssl"),
        (["nosuch.yaml"], "nosuch.yaml does not exist"),
        (["vae/lite"], "neither a file nor a config"),
        ([], "Say which config"),
        (["tiny", "--set", "stps=1"], "unknown key 'stps'; did you mean 'steps'"),
        (["tiny", "--set", "steps"], "write a key and a value"),
        (["tiny", "--set", "steps=1.5"], "steps must be of type int, not '1.5'"),
        (["tiny", "--set", "tensorboard=yes"], "tensorboard must be of type bool"),
        (["tiny", "--set", "batch=0"], "--set: batch must be more than 0"),
        (["tiny", "--set", "learning_rate=nan"], "learning_rate must be"),
        (["tiny", "--print", "--set", "steps=1"], "leave out --set"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, monkeypatch, capsys, words, reason) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mmfa: ") and len(error.splitlines()) == 1 and reason in error
    assert not list(tmp_path.iterdir()), "nothing is left"


def test_the_state_of_a_shipped_model_lies_in_the_repository(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert state_path("lite") == ROOT / "configs" / "state" / "lite.safetensors"
    assert state_path("mine/state.safetensors") == Path("mine/state.safetensors") and state_path("other") is None
    own = Path("configs") / "state" / "lite.safetensors"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    assert state_path("lite") == own


def test_a_run_without_the_repository_says_that_it_starts_with_a_new_discriminator(config, capsys) -> None:
    trainer = Trainer(replace(config, anchor_steps=0, state="elsewhere"), quiet=True)
    trainer.run(until=1)
    assert trainer.step == 1 and "state: discriminator and moments of elsewhere" in capsys.readouterr().out


def test_a_config_of_a_mistyped_folder_is_no_other_config() -> None:
    with pytest.raises(ConfigError, match="neither a file"):
        config_path("ablation/finetune")
