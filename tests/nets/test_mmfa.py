from dataclasses import fields

import pytest
import torch
from torch import nn

from mmfa.geometry import euler_to_matrix
from mmfa.models.lite import tiny
from mmfa.models.lite.model import LiteMMFA
from mmfa.models.mmfa import MMFA
from mmfa.models.paper import small, tiny_paper
from mmfa.models.paper.model import PaperParams
from mmfa.nets.anchors import COUNT, VERTICES, anchor_points
from mmfa.nets.canonical import CanonicalKeypointDetector, soft_argmax
from mmfa.nets.discriminator import Discriminator, DiscriminatorParams, LiteDiscriminator, LiteDiscriminatorParams
from mmfa.nets.fold import fold_batch_norms
from mmfa.portrait import FaceInput
from mmfa.registry import build
from mmfa.train.losses import relative_discriminator_loss

KINDS = pytest.mark.parametrize("params", [tiny(), tiny_paper(), small()], ids=["lite", "paper", "small"])


def _faces(count, *, size=64, seed=0):
    torch.manual_seed(seed)
    return FaceInput(
        image=torch.rand(count, 3, size, size),
        mesh=torch.rand(count, 478, 3) - 0.5,
        rotation=euler_to_matrix(*(40 * (torch.rand(3, count) - 0.5))),
        scale=0.8 + 0.2 * torch.rand(count, 1),
        translation=torch.zeros(count, 3),
    )


def _pick(face, index):
    return FaceInput(*(getattr(face, field.name)[index : index + 1] for field in fields(face)))


def _model(params):
    """In eval mode, with weights and batch statistics such that every network has a say."""
    torch.manual_seed(0)
    model = build(params)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.05)
    return model.eval()


@KINDS
def test_shapes_and_ranges(params):
    with torch.no_grad():
        rendering = _model(params)(_faces(2), _faces(2, seed=1))
    assert [tuple(image.shape) for image in rendering.images] == [(2, 3, size, size) for size in (16, 32, 64)]
    assert all(float(image.min()) >= 0 and float(image.max()) <= 1 for image in rendering.images)
    assert rendering.keypoints.shape == rendering.deformation.shape


@KINDS
def test_a_batch_is_its_members(params):
    model, source, driving = _model(params), _faces(3), _faces(3, seed=1)
    with torch.no_grad():
        together = model(source, driving)
        for index in range(3):
            alone = model(_pick(source, index), _pick(driving, index))
            torch.testing.assert_close(alone.images[-1][0], together.images[-1][index], atol=3e-4, rtol=0)
            torch.testing.assert_close(alone.keypoints[0], together.keypoints[index], atol=1e-5, rtol=0)


@KINDS
def test_one_source_expands_over_the_driving_frames(params):
    model, source, driving = _model(params), _faces(1), _faces(3, seed=1)
    with torch.no_grad():
        once = model.prepare(source)
        motion = model.motion(driving)
        images = model.render(once.expand(3), motion).images[-1]
        for index in range(3):
            alone = model.render(once, motion[index]).images[-1]
            torch.testing.assert_close(alone[0], images[index], atol=3e-4, rtol=0)


@KINDS
def test_some_sources_of_a_batch(params):
    model, faces, driving = _model(params), _faces(3), _faces(3, seed=1)
    with torch.no_grad():
        motion, chosen = model.motion(driving), torch.tensor([2, 0])
        images = model.render(model.prepare(faces), motion).images[-1]
        some = model.render(model.prepare(faces)[chosen], motion[chosen]).images[-1]
    torch.testing.assert_close(some, images[chosen], atol=1e-4, rtol=0)


@KINDS
def test_gradient_reaches_the_source_image(params):
    model, face = _model(params), _faces(1)
    face.image.requires_grad_()
    model(face, _faces(1, seed=1)).images[-1].mean().backward()
    assert face.image.grad is not None and float(face.image.grad.abs().sum()) > 0


@KINDS
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_training_step_reaches_every_network(params, half):
    model, source, driving = build(params).train(), _faces(2), _faces(2, seed=1)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        rendering = model(source, driving)
    assert rendering.images[-1].dtype == rendering.keypoints.dtype == rendering.flow.volume.dtype == torch.float32
    (sum(image.square().mean() for image in rendering.images) + rendering.keypoints.square().mean()).backward()
    for name, network in model.named_children():
        assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in network.parameters()), name


@KINDS
def test_folding_batch_norms_changes_nothing(params):
    model, source, driving = _model(params), _faces(1), _faces(1, seed=1)
    with torch.no_grad():
        wanted, folded = model(source, driving), fold_batch_norms(model)(source, driving)
    torch.testing.assert_close(folded.images[-1], wanted.images[-1], atol=1e-4, rtol=0)


@KINDS
def test_untrained_pose_is_the_priors(params):
    with torch.no_grad():
        model = build(params).eval()
        assert isinstance(model, MMFA)
        motion = model.motion(_faces(2))
    torch.testing.assert_close(motion.rotation, _faces(2).rotation)
    torch.testing.assert_close(motion.scale, torch.ones(2, 1) if isinstance(params, PaperParams) else _faces(2).scale)
    assert float(motion.translation.abs().max()) <= (1e-8 if params == small() else 0), "a heat map's centre is a sum"


def test_untrained_anchored_model_starts_on_its_anchors():
    torch.manual_seed(0)
    model, mean = LiteMMFA(tiny()).eval(), torch.rand(478, 3) - 0.5
    model.anchor(mean)
    canonical = model.canonical(_faces(2))
    assert canonical.shape == (2, COUNT, 3)
    torch.testing.assert_close(canonical, anchor_points(mean).expand(2, -1, -1))
    torch.testing.assert_close(canonical[0, : len(VERTICES)], mean[list(VERTICES)])


def test_detected_keypoints_stay_in_the_cube():
    torch.manual_seed(0)
    detector = CanonicalKeypointDetector(tiny_paper().canonical)
    last = detector.decoder[-1]
    assert isinstance(last, nn.Conv3d)
    nn.init.normal_(last.weight, std=10.0)
    keypoints = detector(torch.rand(2, 3, 64, 64))
    assert keypoints.shape == (2, 5, 3)
    assert float(keypoints.detach().abs().max()) <= 1 + 1e-6


def test_soft_argmax_finds_the_peak_and_centres_without_one():
    heatmaps = torch.zeros(1, 2, 3, 5, 5)
    heatmaps[0, 0, 2, 0, 4] = 10.0
    found = soft_argmax(heatmaps, temperature=0.1)[0]
    torch.testing.assert_close(found, torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.0, 0.0]]), atol=1e-5, rtol=0)


def test_discriminator_gives_features_and_logits():
    torch.manual_seed(0)
    judgement = Discriminator(DiscriminatorParams(widths=(4, 8, 8, 16)))(torch.rand(2, 3, 64, 64))
    assert [feature.shape[1] for feature in judgement.features] == [4, 8, 8, 16]
    assert judgement.logits.shape == (2, 1, *judgement.features[-1].shape[2:])


def test_lite_discriminator_sees_sharpness_that_the_mean_colour_does_not_show():
    torch.manual_seed(0)
    discriminator = LiteDiscriminator(LiteDiscriminatorParams())
    sharp = torch.rand(2, 3, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1, count_include_pad=False)
    optimizer = torch.optim.Adam(discriminator.parameters(), 5e-4)
    for _ in range(60):
        loss = relative_discriminator_loss(discriminator(sharp), discriminator(blurred))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5, "1 when it sees no difference"
    judgement = discriminator(sharp)
    assert [feature.shape[1] for feature in judgement.features] == [32, 64, 128, 128] and judgement.logits.shape == (2, 1, 4, 4)
