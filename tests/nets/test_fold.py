"""The form for inference: every piece of it computes what the trained layers compute."""

from dataclasses import fields, replace
from itertools import product
from typing import TypeVar

import torch
from torch import nn

from mmfa.cost import blank_face
from mmfa.geometry import euler_to_matrix
from mmfa.models.lite import tiny
from mmfa.models.lite.model import LiteMMFA
from mmfa.nets.blocks import UpConvBlock
from mmfa.nets.dense_motion import FaceFlow
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
def test_a_model_for_inference_makes_the_same_pictures(mean_mesh: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = _settled(build(tiny()))
    assert isinstance(model, LiteMMFA) and isinstance(model.generator, LiteGenerator)
    for output in model.generator.outputs:
        assert isinstance(output, nn.Conv2d) and output.bias is not None
        output.bias[3] = 0.0  # half of the picture is generated, so that every layer shows
    model.anchor(mean_mesh)
    turned = euler_to_matrix(*torch.tensor([[0.0], [25.0], [0.0]]))
    face = replace(blank_face(64, mesh_points=478), image=torch.rand(1, 3, 64, 64), mesh=mean_mesh[None], rotation=turned)
    folded = for_inference(model, sampling="table")
    twice = for_inference(folded, sampling="table")
    assert sum(isinstance(module, PhaseConvBlock) for module in folded.modules()) == 3
    source = model.prepare(face)
    driving = source.motion[torch.tensor([0, 0])]
    driving.translation[1] += 0.2
    driving = replace(driving, rotation=torch.stack([face.rotation[0], face.rotation[0].T]))  # and to the other side
    wanted = model.render(source.expand(2), driving)
    assert isinstance(wanted.flow, FaceFlow) and wanted.flow.mirrored is not None and float(wanted.flow.mirrored[1].max()) > 0.5
    for other in (folded, twice):
        found = other.render(other.prepare(face).expand(2), driving)
        for a, b in zip(found.images, wanted.images, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
        for part in fields(FaceFlow):
            torch.testing.assert_close(getattr(found.flow, part.name), getattr(wanted.flow, part.name), atol=1e-4, rtol=0)
        # Where nothing of the mirror image shows, a model for inference leaves it out, and the picture is the same.
        still = other.render(other.prepare(face), driving[0])
        assert isinstance(still.flow, FaceFlow) and still.flow.mirror is None
        torch.testing.assert_close(still.patch, wanted.patch[:1], atol=1e-4, rtol=0)
    assert model.state_dict().keys() == build(tiny()).state_dict().keys(), "the model itself is left alone"
