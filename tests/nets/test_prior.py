"""The distance prior as a matrix product: the same logits as point by point."""

import torch

from mmfa.nets.anchors import COUNT
from mmfa.nets.prior import add_prior


def _keypoints() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    keypoints = 2 * torch.rand(2, COUNT, 3, generator=generator) - 1
    return keypoints, 0.07 + 0.4 * torch.rand(2, COUNT, generator=generator)


def _by_definition(points: torch.Tensor, keypoints: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    metric = torch.tensor([1.0, 1.0, 0.3][: points.shape[1]])
    squared = ((points - keypoints[:, :, None]) ** 2 * metric).sum(-1)
    logits = -squared / (2 * width[..., None] ** 2)
    return torch.cat([torch.full_like(logits[:, :1], -8.0), logits], 1)


def test_the_prior_is_the_gaussians() -> None:
    keypoints, width = _keypoints()
    learned = torch.randn(2, COUNT + 1, 300)
    for axes in (2, 3):
        points, places = 2 * torch.rand(300, axes) - 1, keypoints[..., :axes]
        wanted = learned + _by_definition(points, places, width)
        torch.testing.assert_close(add_prior(learned, points, places, width=width), wanted, atol=1e-3, rtol=1e-5)


def test_absent_keypoints_have_no_mask_even_where_they_are() -> None:
    keypoints, width = _keypoints()
    keypoints = keypoints[..., :2]
    absent, none = (3, 7), torch.zeros(2, COUNT + 1, 2)
    masks = add_prior(none, keypoints[0, list(absent)], keypoints, width=width, absent=absent).softmax(1)
    assert float(masks[:, [1 + index for index in absent]].max()) < 1e-6
    others = [index for index in range(COUNT + 1) if index - 1 not in absent]
    whole = add_prior(none, keypoints[0, list(absent)], keypoints, width=width).softmax(1)[:, others]
    torch.testing.assert_close(masks[:, others], whole / whole.sum(1, keepdim=True), atol=1e-5, rtol=1e-3)


def test_widths_can_be_learned() -> None:
    keypoints, width = _keypoints()
    width.requires_grad_()
    add_prior(torch.zeros(2, COUNT + 1, 50), torch.rand(50, 2), keypoints[..., :2], width=width, absent=(0,)).sum().backward()
    assert width.grad is not None and bool((width.grad[:, 1:] != 0).all()) and bool((width.grad[:, 0] == 0).all())
