"""The form for inference: every piece of it computes what the trained layers compute."""

from itertools import product
from typing import TypeVar

import torch
from torch import nn

from mmfa.cost import blank_face
from mmfa.models.lite import tiny
from mmfa.models.mmfa import MMFA
from mmfa.nets.blocks import UpConvBlock
from mmfa.nets.fold import PhaseConvBlock, PointwiseConv, SquareConv, fold_batch_norms, for_inference
from mmfa.nets.generator import LiteGenerator
from mmfa.registry import build

Module = TypeVar("Module", bound=nn.Module)


def _layouts(x: torch.Tensor) -> list[torch.Tensor]:
    return [x, x.contiguous(memory_format=torch.channels_last)]


def _settled(module: Module) -> Module:
    """In eval mode, with batch statistics that do something."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    return module.eval()


@torch.no_grad()
def test_a_doubled_map_is_convolved_before_the_doubling() -> None:
    torch.manual_seed(0)
    block = _settled(UpConvBlock(5, 7))
    for x in _layouts(torch.randn(2, 5, 6, 9)):
        (folded,) = fold_batch_norms(nn.Sequential(block))
        assert isinstance(folded, UpConvBlock)
        found = PhaseConvBlock(folded)(x)
        assert found.shape == (2, 7, 12, 18)
        torch.testing.assert_close(found, block(x), atol=1e-5, rtol=0)


@torch.no_grad()
def test_convolutions_in_squares_and_as_products_are_convolutions() -> None:
    torch.manual_seed(0)
    for bias, x in product((True, False), _layouts(torch.randn(2, 6, 8, 10))):
        few, point = nn.Conv2d(6, 4, 3, 1, 1, bias=bias), nn.Conv2d(6, 9, 1, bias=bias)
        torch.testing.assert_close(SquareConv(few)(x), few(x), atol=1e-5, rtol=0)
        torch.testing.assert_close(PointwiseConv(point)(x), point(x), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_model_for_inference_makes_the_same_pictures() -> None:
    torch.manual_seed(0)
    model = _settled(build(tiny()))
    assert isinstance(model, MMFA) and isinstance(model.generator, LiteGenerator)
    for output in model.generator.outputs:
        assert isinstance(output, nn.Conv2d) and output.bias is not None
        output.bias[3] = 0.0  # half of the picture is generated, so that every layer shows
    face = blank_face(64, mesh_points=478)
    face.image.uniform_()
    folded = for_inference(model, sampling="table")
    twice = for_inference(folded, sampling="table")
    assert sum(isinstance(module, PhaseConvBlock) for module in folded.modules()) == 3
    source = model.prepare(face)
    driving = source.motion[torch.tensor([0, 0])]
    driving.translation[1] += 0.2
    wanted = model.render(source.expand(2), driving)
    for other in (folded, twice):
        found = other.render(other.prepare(face).expand(2), driving)
        for a, b in zip(found.images, wanted.images, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
        for name in ("volume", "image", "plate", "occlusion", "skip_occlusion", "background"):
            torch.testing.assert_close(getattr(found.flow, name), getattr(wanted.flow, name), atol=1e-4, rtol=0)
    assert model.state_dict().keys() == build(tiny()).state_dict().keys(), "the model itself is left alone"
