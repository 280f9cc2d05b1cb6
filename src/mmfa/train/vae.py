"""Training of the expression VAE (section 3.5), after and apart from the model whose expressions it learns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..errors import ConfigError
from ..evaluate.frechet import FeatureStatistics, frechet_distance
from ..expressions import ExpressionSpace
from ..models.mmfa import MMFA
from ..nets.vae import ExpressionDiscriminator, ExpressionVAE, VAEParams
from ..weights import from_pretrained
from .cache import prepare
from .calibration import calibrate, people_of
from .config import check_values, load_config
from .data import ClipDataset, face_of
from .directions import fit_directions

ACTIVE = 0.01
"""A code unit is active when the variance of its posterior mean over the data exceeds this (Burda et al. 2016)."""


@dataclass(frozen=True)
class VAEConfig:
    """Every key of a config file. Weights of losses are named `loss_*`; 0 switches a loss off."""

    data: str
    output: str
    cache: str
    cache_limit: float = 100.0
    model: str = "lite"
    fps: float = 8.4
    split: str = "train"
    code: int = 32
    steps: int = 2500
    batch: int = 128
    learning_rate: float = 1e-3
    loss_reconstruction: float = 1.0
    loss_kl: float = 0.05
    loss_adversarial: float = 1.0
    pictures: int = 240
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("cache_limit", "fps", "code", "steps", "batch", "learning_rate", "threads"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be more than 0, not {getattr(self, name)!r}.")
        for name in ("loss_reconstruction", "loss_kl", "loss_adversarial", "pictures"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be 0 or more, not {getattr(self, name)!r}.")
        check_values(self)

    @staticmethod
    def load(path: str | Path) -> VAEConfig:
        """Read a YAML file; relative folders are relative to the working directory. Raises ConfigError."""
        return load_config(VAEConfig, path, required=("data", "output", "cache"))


@dataclass(frozen=True)
class ExpressionData:
    """Expressions of T frames of many people.

    feature: (T,N), f of eq. 4. canonical: (T,K,3), x_c of the same frames. person: (T,), counted from 0.
    weight: (T,), sum 1, the same for every person.
    """

    feature: Tensor
    canonical: Tensor
    person: Tensor
    weight: Tensor


@dataclass(frozen=True)
class VAEMeasures:
    """What shows a posterior collapse; everything on whitened features.

    active_units: units whose posterior mean varies by more than `ACTIVE` over the data.
    kl: nats, mean over the data. reconstruction_error: squared error of decoding the posterior mean, over the data's variance.
    sample_variance: total variance of decoded samples over the data's. sample_distance: Frechet distance between decoded
    samples and the data; real_distance: that between two random halves of the data, the least it could be.
    """

    active_units: int
    kl: float
    reconstruction_error: float
    sample_variance: float
    sample_distance: float
    real_distance: float


# -- losses -------------------------------------------------------------------------------------------------------------


def reconstruction_loss(white: Tensor, reconstructed: Tensor) -> Tensor:
    """Half the squared distance of whitened features (B,N), mean over the batch: -log N(f; f^, I) but for a constant (eq. 11)."""
    return 0.5 * (white - reconstructed).square().sum(1).mean()


def discriminator_loss(real: Tensor, reconstructed: Tensor, sampled: Tensor) -> Tensor:
    """Hinge loss of the discriminator on its logits, (B,1) each; reconstructed and sampled features count half each."""
    return F.relu(1 - real).mean() + 0.5 * (F.relu(1 + reconstructed).mean() + F.relu(1 + sampled).mean())


def adversarial_loss(made: Tensor) -> Tensor:
    """Minus the mean of the discriminator's logits (2B,1) of reconstructed and sampled features (eq. 13, hinge GAN)."""
    return -made.mean()


# -- training -----------------------------------------------------------------------------------------------------------


def read_expressions(model: MMFA, data: ClipDataset) -> ExpressionData:
    """What a landmark-fed model says of every frame of a data set; no picture is read."""
    features, canonicals = [], []
    with torch.no_grad():
        for clip in data.clips:
            face = face_of(torch.zeros(clip.length, 0), clip.points())
            features.append(model.motion(face).expression)
            canonicals.append(model.canonical(face))
    return ExpressionData(torch.cat(features), torch.cat(canonicals), *people_of(data))


def fit(feature: Tensor, weight: Tensor, config: VAEConfig, *, quiet: bool = False) -> ExpressionVAE:
    """Train a VAE on features (T,N), drawn by weights (T,); the same seed gives the same VAE.

    Raises FloatingPointError when the loss is not a number.
    """
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    vae = ExpressionVAE(VAEParams(features=feature.shape[1], code=config.code))
    vae.fit_whitening(feature, weight)
    discriminator = ExpressionDiscriminator(feature.shape[1])
    # Betas: the adversary moves, so old gradients must be forgotten soon.
    own, adversary = (torch.optim.Adam(net.parameters(), config.learning_rate, betas=(0.5, 0.9)) for net in (vae, discriminator))
    white = vae.whiten(feature)

    def draw() -> Tensor:
        return white[torch.multinomial(weight, config.batch, replacement=True, generator=generator)]

    bar = tqdm(range(config.steps), desc="expression VAE", unit="step", disable=quiet or None)
    for step in bar:
        for optimizer in (own, adversary):  # a cosine from the learning rate to 0
            optimizer.param_groups[0]["lr"] = config.learning_rate * (0.5 + 0.5 * math.cos(math.pi * step / config.steps))
        real = draw()
        posterior = vae.posterior(real)
        codes = torch.cat([posterior.sample(generator), torch.randn(posterior.mean.shape, generator=generator)])
        reconstructed, sampled = made = vae.decoder(codes).chunk(2)
        reconstruction, kl = reconstruction_loss(real, reconstructed), posterior.divergence().mean()
        loss = config.loss_reconstruction * reconstruction + config.loss_kl * kl
        if config.loss_adversarial:
            _update(adversary, discriminator_loss(*discriminator(torch.cat([draw(), reconstructed, sampled]).detach()).chunk(3)))
            loss = loss + config.loss_adversarial * adversarial_loss(discriminator(torch.cat(made)))
        if not bool(loss.isfinite()):
            raise FloatingPointError(f"Step {step}: the loss of the expression VAE is not a number; lower learning_rate.")
        _update(own, loss)
        if step % 50 == 0:
            bar.set_postfix(reconstruction=f"{float(reconstruction.detach()):.2f}", kl=f"{float(kl.detach()):.2f}")
    return vae.eval().requires_grad_(False)


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def measure(vae: ExpressionVAE, feature: Tensor, weight: Tensor, *, seed: int = 0, count: int = 8000) -> VAEMeasures:
    """See `VAEMeasures`; features (T,N) drawn by weights (T,), best of people who were not trained on."""
    generator = torch.Generator().manual_seed(seed)
    halves = vae.whiten(feature[torch.multinomial(weight, 2 * count, replacement=True, generator=generator)]).chunk(2)
    real, other = halves
    posterior = vae.posterior(real)
    error = (vae.decoder(posterior.mean) - real).square().sum(1).mean()
    sampled = vae.decoder(torch.randn(count, vae.params.code, generator=generator))
    statistics = [FeatureStatistics.of(features) for features in (real, other, sampled)]
    return VAEMeasures(
        active_units=int((posterior.mean.var(0) > ACTIVE).sum()),
        kl=float(posterior.divergence().mean()),
        reconstruction_error=float(error / real.var(0).sum()),
        sample_variance=float(sampled.var(0).sum() / real.var(0).sum()),
        sample_distance=frechet_distance(statistics[2], statistics[0]),
        real_distance=frechet_distance(statistics[1], statistics[0]),
    )


def train_vae(config: VAEConfig, *, quiet: bool = False) -> VAEMeasures:
    """Read the data, train, learn the named directions and write ``vae.safetensors`` and ``vae.json`` into the output folder.

    Returns measures on the training data. Raises ModelError for a model without expressions, ConfigError for one that reads them
    off pixels.
    """
    torch.set_num_threads(config.threads)
    model = from_pretrained(config.model)
    model.card.require("expressions")
    if not isinstance(model, MMFA):
        raise ConfigError(f"{config.model!r} is of the kind {model.card.kind}, whose VAE is trained by a command of its own.")
    clips = tracked_clips(model, config, split=config.split, quiet=quiet)
    data = read_expressions(model, clips)
    vae = fit(data.feature, data.weight, config, quiet=quiet)
    directions = fit_directions(model, data.feature, data.canonical, data.person, data.weight, seed=config.seed)
    if config.pictures:
        directions = calibrate(model, directions, clips, count=config.pictures, seed=config.seed, quiet=quiet)
    ExpressionSpace.of(model, vae, directions).save(config.output)
    return measure(vae, data.feature, data.weight)


def expression_data(model: MMFA, config: VAEConfig, *, split: str, quiet: bool = False) -> ExpressionData:
    """The expressions of one split of the config's data. Raises ConfigError for a model that reads pixels."""
    return read_expressions(model, tracked_clips(model, config, split=split, quiet=quiet))


def tracked_clips(model: MMFA, config: VAEConfig, *, split: str, quiet: bool = False) -> ClipDataset:
    """The clips of one split of the config's data. Raises ConfigError for a model that reads pixels."""
    if model.card.needs_pixels:
        raise ConfigError(f"The expressions of {config.model!r} come from pixels; train-vae reads landmarks: use lite or tiny.")
    files = prepare(Path(config.data), Path(config.cache), fps=config.fps, split=split, limit=config.cache_limit, quiet=quiet)
    return ClipDataset(files, size=model.params.size)
