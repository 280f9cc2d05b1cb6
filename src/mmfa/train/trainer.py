"""The training loop, to be read in one sitting: anchor the keypoints on landmarks, then learn to generate.

Data parallelism is Accelerate's: start with ``torchrun --nproc_per_node N -m mmfa train CONFIG``, on one machine or many.
Everything random depends on the seed and the step, and a batch is what all processes draw together, so neither a kill and
resume nor another number of processes changes what is learnt.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..errors import ConfigError, ModelError
from ..models.lite.model import LiteMMFA, LiteParams
from ..models.mmfa import MMFA
from ..models.paper.model import PaperParams
from ..nets.discriminator import (
    Discriminator,
    DiscriminatorParams,
    Judgement,
    LiteDiscriminator,
    LiteDiscriminatorParams,
)
from ..priors.perceptual import backbone
from ..registry import build, params_of, sizes
from ..weights import from_pretrained, save_pretrained
from . import checkpoints, losses
from .anchoring import anchor
from .board import Board
from .cache import CachedClip, made, prepare
from .checkpoints import Checkpoint
from .config import TrainConfig
from .data import Augmentation, Batch, ClipDataset, StepBatches
from .layout import as_weights_lie, channels_last
from .looks import fit_looks, looks_at_pictures
from .objective import Objective
from .shipped import state_path
from .sync_norm import synchronise_batch_norms


def _discriminator(name: str) -> nn.Module:
    return Discriminator(DiscriminatorParams()) if name == "paper" else LiteDiscriminator(LiteDiscriminatorParams())


class Trainer:
    """Holds everything a checkpoint must hold: model, EMA, discriminator, optimisers and the step."""

    def __init__(self, config: TrainConfig, *, quiet: bool = False) -> None:
        self.config = config
        self.output = Path(config.output)
        world = int(os.environ.get("WORLD_SIZE", "1"))
        _check(config, world)
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.model = _initial_model(config)
        with made(self.output):
            self._build(_prepare(config, quiet=quiet), world=world, quiet=quiet)

    def _build(self, files: list[CachedClip], *, world: int, quiet: bool) -> None:
        """Everything that is on the device, and the group of processes: data are ready by now, so that nobody waits in it."""
        config = self.config
        self.accelerator = _accelerator(config.device)
        self.device, self.quiet = self.accelerator.device, quiet or not self.accelerator.is_main_process
        self.data = ClipDataset(files, size=self.model.params.size, resident=self.device if config.resident else None)
        if not config.init and isinstance(self.model, LiteMMFA):
            self.model.anchor(self.data.mean_mesh())
        if world > 1 and config.sync_batch_norm:
            synchronise_batch_norms(self.model, cuda=self.device.type == "cuda")
        self.model.to(self.device)
        self.discriminator = _discriminator(config.discriminator).to(self.device)
        if self.device.type == "cuda":
            channels_last(self.model, self.discriminator)
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        motion = [p for network in self.model.motion_networks() for p in network.parameters() if p.requires_grad]
        ids = {id(p) for p in motion}
        rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in ids]
        rates = {"lr": config.learning_rate, "betas": (0.5, 0.999)}
        self.optimizer = torch.optim.Adam([{"params": motion}, {"params": rest}], **rates)  # type: ignore[arg-type]
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), **rates)  # type: ignore[arg-type]
        self.objective = Objective(self.model, config, device=self.device)
        self._objective, self._discriminator = self.accelerator.prepare(self.objective, self.discriminator)
        self.board = Board(self.output, tensorboard=config.tensorboard) if self.accelerator.is_main_process else None
        self.step = 0
        self.clock = 0.0

    def run(self, *, until: int | None = None) -> None:
        """Train to `until` (the config's number of steps by default); resumes from the newest checkpoint."""
        if not self.resume():
            self._start()
        last = self.config.steps if until is None else min(until, self.config.steps)
        started, clock, first = time.time(), self.clock, self.step
        stop = _StopSignals()
        bar = tqdm(total=last, initial=self.step, unit="step", disable=self.quiet or None)
        recent: list[dict[str, Tensor]] = []
        try:
            for batch in self._batches(last):
                recent.append(self._train_step(batch.to(self.device)))
                self.step += 1
                self.clock = clock + time.time() - started
                bar.update()
                if self.step % self.config.log_every == 0:
                    means = {name: float(torch.stack([v[name] for v in recent if name in v]).mean()) for name in recent[-1]}
                    recent.clear()
                    rate = (self.step - first) * self.config.batch / (self.clock - clock)
                    bar.set_postfix({k: f"{v:.4f}" for k, v in means.items()})
                    if self.board:
                        self.board.log(self.step, {"seconds": self.clock, "samples_per_second": rate, **means})
                ends = self.step == last or self.progress >= 1 or stop.asked
                if self.step % self.config.save_every == 0 or ends:
                    self.save()
                if self.step % self.config.sample_every == 0:
                    self.sample()
                if ends:
                    break
        except torch.OutOfMemoryError as error:
            text = f"The device's memory is too small for {self._pairs_at_once} pairs at once; raise accumulate, or lower batch."
            raise ConfigError(text) from error
        finally:
            stop.close()
            bar.close()
            if self.board:
                self.board.close()

    @property
    def _pairs_at_once(self) -> int:
        processes: int = self.accelerator.num_processes
        return self.config.batch // self.config.accumulate // processes

    @property
    def progress(self) -> float:
        """How much of the schedule is behind, 0 to 1: by steps, or by the clock where the config says `minutes`."""
        by_clock = self.clock / 60 / self.config.minutes if self.config.minutes else 0.0
        return max(self.step / self.config.steps, by_clock)

    def _batches(self, last: int) -> Iterator[Batch]:
        """This process's part of the batches of the steps from `self.step` to `last`."""
        config = self.config
        batches = StepBatches(
            self.data,
            seed=config.seed,
            steps=config.steps,
            batch=config.batch,
            candidates=config.candidates,
            steady=config.steady,
            turns=config.turns,
            augmentation=Augmentation(**{field.name: getattr(config, field.name) for field in dataclasses.fields(Augmentation)}),
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )
        loader = DataLoader(
            batches, batch_size=None, sampler=range(self.step, last), num_workers=0 if config.resident else config.workers
        )
        yield from loader
        if batches.skipped:
            tqdm.write(f"{len(batches.skipped)} clips could not be read, {sum(batches.skipped.values())} pairs were replaced.")

    # -- the two stages -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """What comes before the first step of a run that has no checkpoint yet."""
        config = self.config
        if config.state:
            found = state_path(config.state)
            if found is None:
                tqdm.write(
                    f"state: discriminator and moments of {config.state} come with the repository, not with the package; "
                    "this run starts with new ones."
                )
            else:
                self._adopt(found)
        if config.anchor_steps and isinstance(self.model, LiteMMFA) and (not config.init or config.anchor_again):
            self._anchor_stage(self.model)

    def _anchor_stage(self, model: LiteMMFA) -> None:
        """Stage 0: only the motion networks, against landmarks, with no image: the keypoints wake up in a minute.

        Every process does the same, so that all end with the same weights.
        """
        config = self.config
        anchor(model, self.data, steps=config.anchor_steps, batch=config.anchor_batch, seed=config.seed, quiet=self.quiet)
        if looks_at_pictures(model):
            fit_looks(model, self.data, quiet=self.quiet)
        self.ema.load_state_dict(model.state_dict())

    def _train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One optimiser step of model and discriminator; returns detached losses by name, unweighted, and their total."""
        config = self.config
        self._set_rates()
        self._set_modes()
        draw = self.step >= config.draw_from
        adversarial = draw and bool(config.loss_gan or config.loss_matching) and self.step >= config.gan_from
        self.optimizer.zero_grad()
        self.discriminator_optimizer.zero_grad()
        sums: dict[str, Tensor] = {}
        parts = batch.chunks(config.accumulate)
        for index, part in enumerate(parts):
            # Gradients travel between processes once a step, with the last part.
            quiet = index < len(parts) - 1
            with self._no_sync(quiet, self._objective), self._autocast():
                self.discriminator.requires_grad_(False)
                outcome = self._objective(part, self.discriminator if adversarial else None, draw=draw)
                self.discriminator.requires_grad_(True)
            total = self._total(outcome.losses)
            with self._no_sync(quiet, self._objective):
                self.accelerator.backward(total / len(parts))
            values = {**outcome.losses, "total": total}
            if adversarial:
                with self._no_sync(quiet, self._discriminator):
                    values["discriminator"] = self._discriminator_step(outcome.real, outcome.fake)
                    self.accelerator.backward(values["discriminator"] / len(parts))
            for name, value in values.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value.detach() / len(parts)
        for network in self._frozen():
            for parameter in network.parameters():
                parameter.grad = None
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        if adversarial:
            nn.utils.clip_grad_norm_(self.discriminator.parameters(), 5.0)
            self.discriminator_optimizer.step()
        self._update_ema()
        return sums

    def _discriminator_step(self, real: Tensor, fake: Tensor) -> Tensor:
        with self._autocast():
            right, wrong = self._discriminator(torch.cat([real, fake])).logits.chunk(2)
        relative = self.config.gan == "relative"
        loss = losses.relative_discriminator_loss if relative else losses.discriminator_loss
        return loss(Judgement((), right), Judgement((), wrong))

    def _total(self, values: dict[str, Tensor]) -> Tensor:
        """The weighted sum. Raises FloatingPointError that names the losses which are no numbers."""
        weights = self.config.weights(self.progress)
        total = torch.stack([weights[name] * value.float() for name, value in values.items()]).sum()
        if not bool(total.isfinite()):
            bad = [name for name, value in values.items() if not bool(value.isfinite())]
            raise FloatingPointError(f"Step {self.step}: the loss is not a number (from {', '.join(bad) or 'their sum'}).")
        return total

    def _set_rates(self) -> None:
        config, progress = self.config, self.progress
        decay = 1.0
        if progress > config.decay_from:
            decay = max(config.final_rate, (1 - progress) / (1 - config.decay_from))
        rate = config.learning_rate * min(1.0, (self.step + 1) / 100) * decay
        for group, factor in zip(self.optimizer.param_groups, (config.motion_rate, 1.0), strict=True):
            group["lr"] = rate * factor
        self.discriminator_optimizer.param_groups[0]["lr"] = rate * config.discriminator_rate

    def _frozen(self) -> list[nn.Module]:
        """The networks that `freeze` names, until step `unfreeze_at` (0: for ever)."""
        thawed = 0 < self.config.unfreeze_at <= self.step
        return [] if thawed else [getattr(self.model, name) for name in self.config.freeze]

    def _set_modes(self) -> None:
        """Everything trains, but for the batch statistics of what is frozen, and of the motion networks.

        Those have learnt the statistics of many people in stage 0. A batch norm over the few faces of a step would take
        away what they have in common: on four faces with open mouths, the open mouth.
        """
        self.model.train()
        settled = self._frozen() + ([] if self.model.card.needs_pixels else self.model.motion_networks())
        for network in [self.model] if self.config.freeze_norms else settled:
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def _no_sync(self, quiet: bool, network: nn.Module) -> AbstractContextManager[None]:
        return self.accelerator.no_sync(network) if quiet else nullcontext()

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for average, value in zip(self.ema.state_dict().values(), self.model.state_dict().values(), strict=True):
            if value.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    # -- checkpoints and samples ----------------------------------------------------------------------------------------

    def save(self) -> None:
        """Checkpoint, and the EMA as a loadable model; each all or nothing. Only the first process writes."""
        if not self.accelerator.is_main_process:
            return
        tensors: dict[str, Tensor] = {}
        for name, module in (("model", self.model), ("ema", self.ema), ("discriminator", self.discriminator)):
            tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        tensors |= checkpoints.pack_optimizer("optimizer", self.optimizer.state_dict())
        tensors |= checkpoints.pack_optimizer("discriminator_optimizer", self.discriminator_optimizer.state_dict())
        checkpoints.save(Checkpoint(tensors, self.step, self.clock), self.output / "checkpoints", keep=self.config.keep)
        save_pretrained(self.ema, self.output / "model")

    def resume(self) -> bool:
        """Continue from the newest checkpoint that can be read. Raises ModelError when there are some but none can."""
        problems = []
        for path in checkpoints.newest_first(self.output / "checkpoints"):
            try:
                self._load(checkpoints.read(path))
            except (ValueError, RuntimeError, KeyError, TypeError) as error:
                problems.append(f"{path} is damaged or of another model ({str(error).splitlines()[0][:200]})")
                tqdm.write(f"skipped: {problems[-1]}")
                continue
            if self.board:
                self.board.rewind(self.step)
            return True
        if problems:
            raise ModelError(f"{problems[0]}; move the folder {self.output / 'checkpoints'} away to start anew.")
        return False

    def _load(self, checkpoint: Checkpoint) -> None:
        states = {name: checkpoint.part(name) for name in ("model", "ema", "discriminator")}
        for name, state in states.items():  # check all before any is changed
            module = getattr(self, name)
            shapes = {key: value.shape for key, value in module.state_dict().items()}
            if shapes != {key: value.shape for key, value in state.items()}:
                raise ValueError(f"the tensors of {name} do not fit")
        for name, state in states.items():
            getattr(self, name).load_state_dict(state)
        for name in ("optimizer", "discriminator_optimizer"):
            optimizer = getattr(self, name)
            optimizer.load_state_dict(checkpoints.unpack_optimizer(checkpoint.part(name), optimizer.state_dict()))
            as_weights_lie(optimizer)
        self.step, self.clock = checkpoint.step, checkpoint.seconds

    def _adopt(self, path: Path) -> None:
        """Discriminator and optimisers of another run, from a checkpoint or what `checkpoints.lean` left of it.

        Raises ConfigError when the file can't be read or is of another model.
        """
        try:
            checkpoint = checkpoints.read(path)
            moments = {}
            for name in ("optimizer", "discriminator_optimizer"):
                optimizer = getattr(self, name)
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                moments[name] = checkpoints.unpack_optimizer(checkpoint.part(name), optimizer.state_dict())
                for index, entry in moments[name]["state"].items():
                    if entry["exp_avg_sq"].shape != parameters[index].shape:
                        raise ValueError(f"the moments of {name} do not fit")
            self.discriminator.load_state_dict(checkpoint.part("discriminator"))
        except (ValueError, RuntimeError, KeyError, IndexError) as error:
            reason = str(error).splitlines()[0][:200]
            raise ConfigError(
                f"state: {path} is damaged or of another model ({reason}); without the key a run starts with new ones."
            ) from error
        for name, state in moments.items():
            getattr(self, name).load_state_dict(state)
            as_weights_lie(getattr(self, name))

    def sample(self) -> None:
        """The sheet of samples of the EMA, as a PNG and on the board."""
        if self.board:
            generator = torch.Generator().manual_seed(1)
            batch = self.data.batch(self.data.draw(6, generator, candidates=4)).to(self.device)
            self.board.sheet(self.step, self.ema.eval(), batch)


class _StopSignals:
    """Ctrl-C and SIGTERM end a run after the step that is being made, with a checkpoint; a second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def _ask(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        tqdm.write("stopping after this step; the same command continues.")

    def close(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _check(config: TrainConfig, world: int) -> None:
    """What a config asks of this machine. Raises ConfigError before any work."""
    parts = world * config.accumulate
    if config.batch % parts:
        raise ConfigError(f"batch ({config.batch}) must be a multiple of processes x accumulate ({parts}).")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(config.device, True):
        raise ConfigError(f"device: {config.device} is not available here.")
    names = [name for name, weight in ((config.perceptual, config.loss_perceptual), (config.face, config.loss_face)) if weight]
    for name in [*names, "faceres"] if config.loss_embedding else names:
        backbone(name)  # an unknown name, or weights that aren't here
    size = params_of(config.model).size if config.model in sizes() else 256
    adversarial, compared = config.loss_gan or config.loss_matching, config.loss_perceptual and not config.pyramid
    seen, needed = round(config.window * size), 46 if config.discriminator == "paper" and adversarial else 16
    if (adversarial or compared) and seen < needed:
        raise ConfigError(f"window: {config.window:g} of {size} pixels are {seen}, too few for the networks that look at it.")


def _prepare(config: TrainConfig, *, quiet: bool) -> list[CachedClip]:
    """The decoded clips; of the processes of a machine one makes them."""
    return prepare(
        Path(config.data),
        Path(config.cache) if config.cache else Path(config.output) / "cache",
        fps=config.fps,
        split=config.split,
        stills=config.stills > 0,
        side=config.cached_side,
        workers=config.workers,
        limit=config.cache_limit,
        quiet=quiet,
    )


def _accelerator(device: str) -> Accelerator:
    accelerator = Accelerator(cpu=device == "cpu" or (device == "auto" and not torch.cuda.is_available()))
    if device not in ("auto", accelerator.device.type):
        raise ConfigError(f"device: {device} is not available here.")
    return accelerator


def _initial_model(config: TrainConfig) -> MMFA:
    """The model to train, with the weights that `init` names. Raises ConfigError when they are of another size."""
    if config.model not in sizes():
        raise ConfigError(f"model must be {' or '.join(sizes())}, not {config.model!r}.")
    params = params_of(config.model)
    if config.composition:
        params = dataclasses.replace(params, composition=config.composition)
    model = build(params)
    if not isinstance(model, MMFA):
        raise ConfigError(
            f"model: {config.model!r} isn't trained by this command; its kind, {model.card.kind}, has one of its own."
        )
    unknown = [name for name in config.freeze if not isinstance(getattr(model, name, None), nn.Module)]
    if unknown:
        known = ", ".join(name for name, _ in model.named_children())
        raise ConfigError(f"freeze: the model has no network {unknown[0]!r}; it has {known}.")
    if config.init:
        initial = from_pretrained(config.init)
        grown = isinstance(params, PaperParams) and _shapes(initial) == _shapes(model)  # the same tensors for larger pictures
        if initial.params != params and not grown:
            raise ConfigError(f"init: {config.init!r} is not of the size {config.model!r}.{_cure(initial.params, params)}")
        model.load_state_dict(initial.state_dict())
    return model


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _cure(found: object, wanted: object) -> str:
    """What to do about weights of another size, where something can be done: those of 0.4.0 and before go by the mesh alone."""
    if not isinstance(found, LiteParams) or not isinstance(wanted, LiteParams):
        return ""
    if found.canonical.directions or dataclasses.replace(found, canonical=wanted.canonical) != wanted:
        return ""
    return " Its canonical detector knows no pictures: tools/anchor_motion.py MODEL OUT --data DATA --looks makes one that does."
