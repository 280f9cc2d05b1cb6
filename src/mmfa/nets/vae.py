"""Expression VAE: expression features f to codes z that can be interpolated and sampled (eq. 10-13)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .blocks import mlp


@dataclass(frozen=True)
class Posterior:
    """q(z|f): independent Gaussians. mean and log_variance: (B,C)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Codes (B,C), reparameterised: ``z = mu + sigma * eps`` (eq. 10)."""
        noise = torch.randn(self.mean.shape, generator=generator).to(self.mean)
        return self.mean + (self.log_variance / 2).exp() * noise

    def divergence(self) -> Tensor:
        """``KL(q(z|f) || N(0,I))`` in nats, (B,) (eq. 12)."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).sum(1)


@dataclass(frozen=True)
class VAEParams:
    """floor: share of the mean variance that is added to each component's before it is whitened, so that what hardly varies
    isn't blown up to count as much as a smile.
    """

    features: int = 64
    code: int = 32
    hidden: tuple[int, ...] = (256, 256)
    floor: float = 0.1


class ExpressionVAE(nn.Module):
    """Encoder f (B,N) to q(z|f) and decoder z (B,C) to f (B,N), both fully connected, on whitened features.

    There is no batch norm: its running statistics would mix reconstructions and samples, which differ while the VAE learns.
    """

    centre: Tensor
    basis: Tensor
    spread: Tensor

    def __init__(self, params: VAEParams) -> None:
        super().__init__()
        self.params = params
        width = params.features
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("basis", torch.eye(width))
        self.register_buffer("spread", torch.ones(width))
        self.encoder = mlp((width, *params.hidden, 2 * params.code))
        self.decoder = mlp((params.code, *reversed(params.hidden), width))

    @torch.no_grad()
    def fit_whitening(self, features: Tensor, weights: Tensor) -> None:
        """Take mean and covariance from features (T,N) with weights (T,) of sum 1."""
        mean = weights @ features
        offset = features - mean
        values, vectors = torch.linalg.eigh(offset.T @ (weights[:, None] * offset))
        self.centre.copy_(mean)
        self.basis.copy_(vectors)
        self.spread.copy_((values.clamp_min(0) + self.params.floor * values.mean()).sqrt())

    def whiten(self, feature: Tensor) -> Tensor:
        """Features (B,N) with mean 0 and, but for the floor, unit covariance over the data."""
        return (feature - self.centre) @ self.basis / self.spread

    def unwhiten(self, white: Tensor) -> Tensor:
        """Inverts `whiten`."""
        return (white * self.spread) @ self.basis.T + self.centre

    def posterior(self, white: Tensor) -> Posterior:
        """q(z|f) of whitened features (B,N)."""
        mean, log_variance = self.encoder(white).chunk(2, 1)
        return Posterior(mean, log_variance)

    def encode(self, feature: Tensor) -> Posterior:
        """q(z|f) of features (B,N)."""
        return self.posterior(self.whiten(feature))

    def decode(self, code: Tensor) -> Tensor:
        """Features (B,N) of codes (B,C)."""
        return self.unwhiten(self.decoder(code))


class ExpressionDiscriminator(nn.Module):
    """Whitened features (B,N) to logits (B,1): real, or reconstructed or sampled. Spectral norm keeps it smooth."""

    def __init__(self, features: int, *, hidden: tuple[int, ...] = (256, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((features, *hidden), hidden, strict=False):
            layers += [spectral_norm(nn.Linear(inputs, outputs)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Linear(hidden[-1], 1)))

    def forward(self, white: Tensor) -> Tensor:
        """Logits (B,1) of whitened features (B,N)."""
        logits: Tensor = self.layers(white)
        return logits
