"""The training loop, to be read in one sitting: anchor the keypoints on landmarks, then learn to generate."""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import ConfigError, ModelError
from ..media.files import atomic_output
from ..media.image import contact_sheet, to_uint8, write_image
from ..nets.anchors import FINE, VERTICES
from ..nets.mmfa import MMFA, Rendering
from ..priors.perceptual import EfficientNetLite0
from ..weights import build, from_pretrained, save_pretrained
from . import losses
from .config import TrainConfig
from .data import Batch, ClipDataset, prepare


class Trainer:
    """Holds everything a checkpoint must hold: model, EMA, optimiser, step and the state of the random generator."""

    def __init__(self, config: TrainConfig, *, quiet: bool = False) -> None:
        self.config, self.quiet = config, quiet
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.output = Path(config.output)
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"The folder {self.output} cannot be made: {error.strerror}.") from error
        cache = Path(config.cache) if config.cache else self.output / "cache"
        self.model: MMFA = build(config.model)
        if self.model.needs_pixels:
            raise ConfigError(
                f"This trainer anchors keypoints on landmarks; {config.model!r} has free keypoints, choose lite or tiny."
            )
        self.data = ClipDataset(prepare(Path(config.data), cache, fps=config.fps), size=self.model.params.size)
        self.generator = torch.Generator().manual_seed(config.seed)
        if config.init:
            self.model.load_state_dict(self._initial_weights().state_dict())
        else:
            self.model.anchor(self.data.mean_mesh())
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        motion = [p for network in self.model.motion_networks() for p in network.parameters()]
        ids = {id(p) for p in motion}
        rest = [p for p in self.model.parameters() if id(p) not in ids]
        self.optimizer = torch.optim.Adam([{"params": motion}, {"params": rest}], lr=config.learning_rate, betas=(0.5, 0.999))
        self.keypoint_weights = torch.ones(len(VERTICES))
        self.keypoint_weights[:FINE] = 3.0
        self.perceptual = EfficientNetLite0() if config.loss_perceptual else None
        self.step = 0
        self.clock = 0.0

    def run(self, *, until: int | None = None) -> None:
        """Train to `until` (the config's number of steps by default); resumes from the newest checkpoint."""
        if not self.resume() and not self.config.init:
            self._anchor_stage()
        last = self.config.steps if until is None else min(until, self.config.steps)
        started, clock = time.time(), self.clock
        self.model.train()
        bar = tqdm(total=last, initial=self.step, unit="step", disable=self.quiet or None)
        log = (self.output / "log.jsonl").open("a")
        try:
            while self.step < last:
                values = self._train_step()
                self.step += 1
                self.clock = clock + time.time() - started
                bar.update()
                if self.step % self.config.log_every == 0:
                    record = {"step": self.step, "seconds": round(self.clock, 1), **{k: round(v, 5) for k, v in values.items()}}
                    log.write(json.dumps(record) + "\n")
                    log.flush()
                    bar.set_postfix({k: f"{v:.4f}" for k, v in values.items()})
                if self.step % self.config.save_every == 0 or self.step == last:
                    self.save()
                if self.step % self.config.sample_every == 0:
                    self.sample()
        finally:
            log.close()
            bar.close()

    def _initial_weights(self) -> MMFA:
        """The model named by `init`: a shipped one or a folder. Raises ConfigError when it is of another size."""
        model = from_pretrained(self.config.init)
        if model.params != self.model.params:
            raise ConfigError(f"init: {self.config.init!r} is not of the size {self.config.model!r}.")
        return model

    # -- the two stages -------------------------------------------------------------------------------------------------

    def _anchor_stage(self) -> None:
        """Stage 0: only the motion networks, against landmarks, with no image: the keypoints wake up in a minute."""
        config = self.config
        networks = nn.ModuleList(self.model.motion_networks())
        optimizer = torch.optim.AdamW(networks.parameters(), 1e-3, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=max(2, config.anchor_steps), pct_start=0.1)
        bar = tqdm(range(config.anchor_steps), desc="anchoring keypoints", unit="step", disable=self.quiet or None)
        self.model.train()
        for _ in bar:
            batch = self.data.batch(self.data.pairs(config.anchor_batch, self.generator), images=False)
            values = self._motion_losses(batch)
            loss = 10 * values["keypoint"] + config.loss_ssl * values["ssl"]
            loss = loss + values["identity"] + 0.03 * values["deformation"]
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(networks.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            bar.set_postfix(keypoint=f"{float(values['keypoint'].detach()):.4f}")
        self.ema.load_state_dict(self.model.state_dict())

    def _motion_losses(self, batch: Batch, rendering: Rendering | None = None) -> dict[str, Tensor]:
        model = self.model
        canonical, other = model.canonical(batch.source), model.canonical(batch.driving)
        source, driving = model.motion(batch.source), model.motion(batch.driving)
        placed_source, _ = model.keypoints(canonical, source)
        if rendering is None:
            placed_driving, deformation = model.keypoints(canonical, driving)
        else:
            placed_driving, deformation = rendering.keypoints, rendering.deformation
        noisy = batch.driving.mesh + 0.01 * torch.randn(batch.driving.mesh.shape, generator=self.generator)
        with torch.autocast("cpu", enabled=False):
            augmented = model.expression_encoder(noisy - model.mean_mesh)
        weights = self.keypoint_weights
        return {
            "keypoint": losses.keypoint_loss(placed_source, batch.source_points, weights)
            + losses.keypoint_loss(placed_driving, batch.driving_points, weights),
            "identity": losses.identity_loss(canonical, other),
            "deformation": losses.deformation_loss(deformation),
            "ssl": losses.ssl_loss(driving.expression, augmented),
        }

    def _train_step(self) -> dict[str, float]:
        config = self.config
        progress = self.step / config.steps
        decay = 1.0
        if progress > config.decay_from:
            decay = max(config.final_rate, (1 - progress) / (1 - config.decay_from))
        rate = config.learning_rate * min(1.0, (self.step + 1) / 100) * decay
        for group, factor in zip(self.optimizer.param_groups, (config.motion_rate, 1.0), strict=True):
            group["lr"] = rate * factor
        batch = self._jitter(self.data.batch(self.data.pairs(config.batch, self.generator, candidates=config.candidates)))
        target = batch.driving.image
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            rendering = self.model(batch.source, batch.driving)
            values = self._motion_losses(batch, rendering)
            values["pixel"] = losses.pixel_loss(rendering.images, target)
            values["detail"] = losses.detail_loss(rendering.images[-1], target, batch.landmarks)
            if self.perceptual is not None:
                values["perceptual"] = self._perceptual(rendering.images[-1], target)
        anchored = config.loss_keypoint_final + (config.loss_keypoint - config.loss_keypoint_final) * math.exp(-5 * progress)
        scale = {name: float(getattr(config, f"loss_{name}")) for name in values if name != "keypoint"}
        scale["keypoint"] = anchored
        total = torch.stack([scale[name] * value.float() for name, value in values.items()]).sum()
        if not bool(total.isfinite()):
            bad = [name for name, value in values.items() if not bool(value.isfinite())]
            raise FloatingPointError(f"Step {self.step}: the loss is not a number (from {', '.join(bad)}).")
        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self._update_ema()
        return {name: float(value.detach()) for name, value in values.items()} | {"total": float(total.detach())}

    def _perceptual(self, image: Tensor, target: Tensor) -> Tensor:
        """The whole picture at half size, and a random half-size window at full size: a third of the cost of all of it."""
        assert self.perceptual is not None
        side = image.shape[-1] // 2
        y, x = (int(v) for v in torch.randint(side // 4, side - side // 4 + 1, (2,), generator=self.generator))
        pool = nn.functional.avg_pool2d
        images = torch.cat([pool(image, 2), image[..., y : y + side, x : x + side]])
        targets = torch.cat([pool(target, 2), target[..., y : y + side, x : x + side]])
        return losses.perceptual_loss(images, targets, self.perceptual)

    def _jitter(self, batch: Batch) -> Batch:
        """One random gain and offset per pair and channel, the same for source and driving."""
        amount = self.config.colour_jitter
        if not amount:
            return batch
        count = len(batch.landmarks)
        gain = 1 + amount * (torch.rand(count, 3, 1, 1, generator=self.generator) - 0.5)
        offset = 0.5 * amount * (torch.rand(count, 1, 1, 1, generator=self.generator) - 0.5)
        for face in (batch.source, batch.driving):
            face.image.mul_(gain).add_(offset).clamp_(0, 1)
        return batch

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
        """Checkpoint (model, EMA, optimiser, random state) and the EMA as a loadable model, each all or nothing."""
        tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        state = self.optimizer.state_dict()["state"]
        tensors |= {f"optimizer.{i}.{k}": torch.as_tensor(v) for i, entry in state.items() for k, v in entry.items()}
        tensors["generator"] = self.generator.get_state()
        with atomic_output(self.output / "checkpoint.safetensors") as temporary:
            save_file(
                {k: v.contiguous() for k, v in tensors.items()},
                str(temporary),
                metadata={"step": str(self.step), "seconds": repr(self.clock)},
            )
        save_pretrained(self.ema, self.output / "model")

    def resume(self) -> bool:
        """Continue from the checkpoint in the output folder, if there is one. Raises ModelError if it doesn't fit."""
        path = self.output / "checkpoint.safetensors"
        if not path.exists():
            return False
        try:
            self._load(path)
        except (SafetensorError, RuntimeError, OSError, KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
            raise ModelError(f"{path} is damaged or of another model ({reason}); move it away to start anew.") from error
        return True

    def _load(self, path: Path) -> None:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata()
        tensors = load_file(str(path))

        def part(prefix: str) -> dict[str, Tensor]:
            return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        self.ema.load_state_dict(part("ema."))
        state: dict[int, dict[str, Any]] = {}
        for key, value in part("optimizer.").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.generator.set_state(tensors["generator"])
        self.step, self.clock = int(metadata["step"]), float(metadata["seconds"])

    @torch.no_grad()
    def sample(self) -> None:
        """A grid PNG of training pairs: source, driving, output of the EMA, one column a pair."""
        self.ema.eval()
        generator = torch.Generator().manual_seed(1)
        batch = self.data.batch(self.data.pairs(6, generator))
        images = self.ema(batch.source, batch.driving).images[-1]
        rows = [list(to_uint8(row)) for row in (batch.source.image, batch.driving.image, images)]
        write_image(self.output / f"sample_{self.step:06d}.png", contact_sheet(rows))
