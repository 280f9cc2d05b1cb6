"""The expression VAE's network: closed forms, whitening, shapes."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from mmfa.nets.vae import ExpressionDiscriminator, ExpressionVAE, Posterior, VAEParams


def posterior(count: int = 5, width: int = 3) -> Posterior:
    generator = torch.Generator().manual_seed(0)
    return Posterior(torch.randn(count, width, generator=generator), torch.randn(count, width, generator=generator))


def test_divergence_agrees_with_the_closed_form() -> None:
    q = posterior()
    wanted = kl_divergence(Normal(q.mean, (q.log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(q.divergence(), wanted)


def test_divergence_is_zero_only_at_the_prior() -> None:
    assert Posterior(torch.zeros(2, 4), torch.zeros(2, 4)).divergence().tolist() == [0, 0]
    assert Posterior(torch.full((1, 4), 0.1), torch.zeros(1, 4)).divergence() == pytest.approx(4 * 0.01 / 2)


def test_samples_have_the_posterior_s_mean_and_spread() -> None:
    one = posterior(1)
    many = Posterior(one.mean.expand(40_000, -1), one.log_variance.expand(40_000, -1))
    drawn = many.sample(torch.Generator().manual_seed(1))
    spread = (one.log_variance[0] / 2).exp()
    assert ((drawn.mean(0) - one.mean[0]).abs() < 5 * spread / 200).all()
    torch.testing.assert_close(drawn.std(0), spread, rtol=0.02, atol=0)


def test_reparameterised_samples_pass_gradients_to_mean_and_variance() -> None:
    mean, log_variance = torch.zeros(4, 2, requires_grad=True), torch.zeros(4, 2, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    Posterior(mean, log_variance).sample(generator).sum().backward()
    assert mean.grad is not None
    assert (mean.grad == 1).all()
    torch.testing.assert_close(log_variance.grad, noise / 2)


def test_whitening_is_inverted_and_has_unit_covariance_without_a_floor() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(6, 6, generator=generator)
    features = torch.randn(3000, 6, generator=generator) @ mix + 7
    weights = torch.rand(3000, generator=generator)
    weights /= weights.sum()
    vae = ExpressionVAE(VAEParams(features=6, code=2, floor=0.0))
    vae.fit_whitening(features, weights)
    white = vae.whiten(features)
    torch.testing.assert_close(weights @ white, torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(white.T @ (weights[:, None] * white), torch.eye(6), atol=2e-3, rtol=0)
    torch.testing.assert_close(vae.unwhiten(white), features, atol=1e-4, rtol=1e-5)


def test_the_floor_keeps_what_hardly_varies_small() -> None:
    features = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 1e-3])
    vae = ExpressionVAE(VAEParams(features=3, code=2, floor=0.1))
    vae.fit_whitening(features, torch.full((2000,), 1 / 2000))
    assert vae.whiten(features).std(0).min() < 0.01 and vae.whiten(features).std(0).max() > 0.9


def test_shapes_and_batch_of_one() -> None:
    vae = ExpressionVAE(VAEParams(features=10, code=4, hidden=(16, 8))).eval()
    features = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    q = vae.encode(features)
    assert q.mean.shape == q.log_variance.shape == (3, 4)
    assert vae.decode(q.mean).shape == (3, 10)
    torch.testing.assert_close(vae.decode(vae.encode(features[:1]).mean), vae.decode(q.mean)[:1])


def test_the_discriminator_changes_no_faster_than_its_input() -> None:
    """Spectral norm: 1-Lipschitz, up to the power iteration's error."""
    torch.manual_seed(0)
    discriminator = ExpressionDiscriminator(10, hidden=(32, 32))
    for _ in range(30):
        discriminator(torch.randn(4, 10))
    discriminator.eval()
    a, b = torch.randn(200, 10), torch.randn(200, 10)
    assert discriminator(a).shape == (200, 1)
    assert ((discriminator(a) - discriminator(b)).abs()[:, 0] <= 1.05 * (a - b).norm(dim=1)).all()
