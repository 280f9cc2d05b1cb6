"""Channels-last weights, as they lie on a GPU: every network takes them, and nothing but their order in memory changes."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mmfa.geometry import euler_to_matrix
from mmfa.nets.discriminator import Discriminator, DiscriminatorParams, LiteDiscriminator, LiteDiscriminatorParams
from mmfa.portrait import FaceInput
from mmfa.priors.face_features import FaceFeatures
from mmfa.priors.lite0 import EfficientNetLite0, available
from mmfa.priors.vgg import VGG, vgg19_params, vggface_params
from mmfa.registry import build, params_of, sizes
from mmfa.train.config import TrainConfig
from mmfa.train.layout import channels_last
from mmfa.train.trainer import Trainer


def faces(count: int, size: int) -> FaceInput:
    return FaceInput(
        image=torch.rand(count, 3, size, size),
        mesh=torch.rand(count, 478, 3) - 0.5,
        rotation=euler_to_matrix(*(40 * (torch.rand(3, count) - 0.5))),
        scale=0.8 + 0.2 * torch.rand(count, 1),
        translation=torch.zeros(count, 3),
    )


def assert_laid_out(network: nn.Module) -> None:
    weights = [p for p in network.parameters() if p.dim() == 4]
    assert weights and all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    assert all(p.is_contiguous() for p in network.parameters() if p.dim() != 4)


@pytest.mark.parametrize("size", [pytest.param(name, marks=[pytest.mark.slow] * (name == "paper")) for name in sizes()])
@torch.no_grad()
def test_every_size_renders_the_same(size: str) -> None:
    """At 128 pixels or less: networks of 256 are slow here."""
    torch.manual_seed(0)
    params = params_of(size)
    model = build(params).eval()
    source, driving = (faces(1, min(128, params.size)) for _ in range(2))
    wanted = model(source, driving).images[-1]
    channels_last(model)
    assert_laid_out(model)
    torch.testing.assert_close(model(source, driving).images[-1], wanted, atol=1e-3, rtol=0)


def _without_weights(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> nn.Module:
    """A network whose file isn't here, as it is initialised."""
    monkeypatch.setattr(kind, "_load", lambda self, *_: None)
    return kind(*arguments, path="")


@pytest.mark.parametrize("name", ["paper", "lite", "efficientnet-lite0", "vgg19", "vggface", "faceres"])
@torch.no_grad()
def test_what_judges_judges_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The discriminators and the perceptual networks; the landmark network's weights are buffers and stay as they are."""
    torch.manual_seed(0)
    network = {
        "paper": lambda: Discriminator(DiscriminatorParams()),
        "lite": lambda: LiteDiscriminator(LiteDiscriminatorParams()),
        "efficientnet-lite0": lambda: EfficientNetLite0() if available() else _without_weights(EfficientNetLite0, monkeypatch),
        "vgg19": lambda: _without_weights(VGG, monkeypatch, vgg19_params()),
        "vggface": lambda: _without_weights(VGG, monkeypatch, vggface_params()),
        "faceres": lambda: _without_weights(FaceFeatures, monkeypatch),
    }[name]().eval()
    image = torch.rand(2, 3, 64, 64)

    def maps() -> list[torch.Tensor]:
        found = network(image)
        return [*found.features, found.logits] if hasattr(found, "logits") else list(found)

    wanted = maps()
    channels_last(network)
    assert_laid_out(network)
    for ours, theirs in zip(maps(), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("model", ["tiny", "tiny-paper"])
def test_a_run_on_such_weights_learns_saves_and_goes_on(config: TrainConfig, model: str, monkeypatch) -> None:
    """As on a GPU: forward, backward, EMA, checkpoint, and moments that lie as their weights again afterwards."""
    config = replace(config, model=model, anchor_steps=0, loss_gan=1.0, window=1.0, discriminator="paper")

    def trainer() -> Trainer:
        made = Trainer(config, quiet=True)
        channels_last(made.model, made.discriminator, made.ema)
        return made

    trainer().run(until=1)
    second = trainer()
    second.run(until=2)
    assert second.step == 2
    assert_laid_out(second.model)
    assert_laid_out(second.discriminator)
    for parameter, state in second.optimizer.state.items():
        assert state["exp_avg"].stride() == parameter.stride()
