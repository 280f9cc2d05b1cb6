"""The distance prior as a matrix product: the same logits as point by point."""

import torch

from mmfa.nets.anchors import COUNT, GROUPS
from mmfa.nets.prior import add_prior


def _keypoints() -> tuple[torch.Tensor, torch.Tensor]:
    """Random keypoints, those of each eye within a few hundredths of each other, and widths."""
    generator = torch.Generator().manual_seed(0)
    keypoints = 2 * torch.rand(2, COUNT, 3, generator=generator) - 1
    for group in map(list, GROUPS):
        keypoints[:, group] = keypoints[:, group[:1]] + 0.04 * torch.randn(2, len(group), 3, generator=generator)
    return keypoints, 0.07 + 0.4 * torch.rand(2, COUNT, generator=generator)


def _by_definition(
    points: torch.Tensor, keypoints: torch.Tensor, width: torch.Tensor, part_width: torch.Tensor | None
) -> torch.Tensor:
    metric = torch.tensor([1.0, 1.0, 0.3][: points.shape[1]])
    squared = ((points - keypoints[:, :, None]) ** 2 * metric).sum(-1)
    logits = -squared / (2 * width[..., None] ** 2)
    if part_width is not None:
        for group in map(list, GROUPS):
            nearest = squared[:, group].amin(1, keepdim=True)
            logits[:, group] = (nearest - squared[:, group]) / (2 * part_width[..., None] ** 2)
            logits[:, group] -= nearest / (2 * width[:, group, None] ** 2)
    return torch.cat([torch.full_like(logits[:, :1], -8.0), logits], 1)


def test_volume_prior_is_the_gaussians() -> None:
    keypoints, width = _keypoints()
    points, learned = 2 * torch.rand(300, 3) - 1, torch.randn(2, COUNT + 1, 300)
    wanted = learned + _by_definition(points, keypoints, width, None)
    torch.testing.assert_close(add_prior(learned, points, keypoints, width=width), wanted, atol=1e-3, rtol=1e-5)


def test_inside_an_eye_the_nearest_keypoint_wins_sharply() -> None:
    keypoints, width = _keypoints()
    keypoints, part = keypoints[..., :2], torch.tensor([[0.025], [0.02]])
    near = keypoints[0, [GROUPS[0][3], GROUPS[1][5]]].repeat(100, 1) + 0.05 * torch.randn(200, 2)
    points = torch.cat([near, 2 * torch.rand(300, 2) - 1])
    found = add_prior(torch.zeros(2, COUNT + 1, 500), points, keypoints, width=width, part_width=part)
    wanted = _by_definition(*(x.double() for x in (points, keypoints, width, part)))
    torch.testing.assert_close(found.softmax(1), wanted.softmax(1).float(), atol=1e-4, rtol=0)
    eye = torch.tensor(GROUPS[0])
    at = add_prior(torch.zeros(2, COUNT + 1, len(eye)), keypoints[0, eye], keypoints, width=width, part_width=part)
    assert torch.equal(at[0, 1 + eye].argmax(0), torch.arange(len(eye))), "on a keypoint, that keypoint's mask leads its eye"


def test_widths_can_be_learned() -> None:
    keypoints, width = _keypoints()
    width.requires_grad_()
    none, points, part = torch.zeros(2, COUNT + 1, 50), torch.rand(50, 2), torch.full((2, 1), 0.02)
    logits = add_prior(none, points, keypoints[..., :2], width=width, part_width=part)
    logits.sum().backward()
    assert width.grad is not None and bool((width.grad != 0).all())
