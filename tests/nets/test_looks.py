"""The canonical detector's eye for pictures: the landmark network's layers, upright, and a correction that only pixels bring."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmfa.geometry import euler_to_matrix
from mmfa.models.lite import lite, tiny
from mmfa.models.lite.model import LiteMMFA
from mmfa.nets.looks import LOOKS, LookEncoder, upright
from mmfa.portrait import FaceInput
from mmfa.priors import graph
from mmfa.priors.landmarks import FaceLandmarker
from mmfa.train.looks import copy_layers


def _face(*, pixels=True, roll=0.0):
    torch.manual_seed(0)
    return FaceInput(
        image=torch.rand(2, 3, 64, 64) if pixels else torch.zeros(2, 3, 0, 0),
        mesh=0.1 * torch.randn(2, 478, 3),
        rotation=euler_to_matrix(torch.zeros(2), torch.zeros(2), torch.full((2,), roll)),
        scale=torch.full((2, 1), 0.4),
        translation=torch.zeros(2, 3),
    )


def _model():
    torch.manual_seed(1)
    model = LiteMMFA(replace(tiny(), canonical=replace(tiny().canonical, directions=3))).eval()
    write = model.canonical_detector.write
    assert isinstance(write, torch.nn.Linear)
    torch.nn.init.normal_(write.weight, std=0.1)
    return model


def test_the_layers_are_the_landmark_networks(monkeypatch):
    encoder, network = LookEncoder().eval(), FaceLandmarker().network
    copy_layers(encoder)
    maps, prelu = [], graph._OPERATIONS["prelu"]

    def kept(*arguments):
        maps.append(prelu(*arguments))
        return maps[-1]

    monkeypatch.setitem(graph._OPERATIONS, "prelu", kept)
    image = torch.rand(2, 3, 192, 192)
    still = {"rotation": torch.eye(3).expand(2, 3, 3), "translation": torch.zeros(2, 3)}
    with torch.no_grad():
        network(upright(image, scale=torch.ones(2, 1), **still))
        looks = encoder(image, scale=torch.ones(2, 1), **still)
    pooled = [F.adaptive_avg_pool2d(map_, 3).flatten(1) for map_ in maps if map_.shape[-1] in (24, 12, 6)]
    assert looks.shape == (2, LOOKS)
    lengths = (64 * 9, 128 * 9, 128 * 9)
    for part, length in zip(looks.split(lengths, 1), lengths, strict=True):
        nearest = min(float((part - one).abs().max()) for one in pooled if one.shape[1] == length)
        assert nearest < 1e-4
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_what_is_fitted_in_closed_form_is_left_alone_by_training():
    trained = {name.split(".")[0] for name, p in _model().canonical_detector.named_parameters() if p.requires_grad}
    assert trained == {"head"}


def test_a_head_is_looked_at_upright_whatever_its_roll_size_and_place():
    """A picture turned with its head, and the same picture."""
    steps = torch.linspace(-1, 1, 128)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    pose = {"scale": torch.full((1, 1), 0.3), "translation": torch.tensor([[0.2, -0.1, 0.0]])}

    def drawn(rotation):
        away = torch.stack([x - 0.2, y + 0.1], -1) @ rotation[0, :2, :2] / 0.3  # in the head's own frame
        waves = [(3 * away[..., 0]).sin(), (4 * away[..., 1]).cos(), (2 * away.sum(-1)).sin()]
        return torch.stack(waves)[None] / 2 + 0.5

    chips = []
    for roll in (0.0, 40.0):
        rotation = euler_to_matrix(torch.zeros(1), torch.zeros(1), torch.tensor([roll]))
        chips.append(upright(drawn(rotation), rotation=rotation, **pose))
    torch.testing.assert_close(chips[0], chips[1], atol=0.02, rtol=0)


def test_pixels_correct_the_canonical_keypoints_and_without_them_the_mesh_decides():
    model, face = _model(), _face()
    with torch.no_grad():
        seen, other = model.canonical(face), model.canonical(replace(face, image=face.image.flip(0)))
        blind = model.canonical(_face(pixels=False))
        alone = model.canonical_detector(face.mesh - model.mean_mesh)
    torch.testing.assert_close(blind, alone)
    assert float((seen - alone).abs().mean()) > 1e-3 and float((seen - other).abs().mean()) > 1e-5


@pytest.mark.parametrize("params", [lite(), tiny()])
def test_an_unfitted_eye_changes_nothing(params):
    model = LiteMMFA(params).eval()
    face = _face()
    with torch.no_grad():
        torch.testing.assert_close(model.canonical(face), model.canonical(replace(face, image=torch.zeros(2, 3, 0, 0))))
