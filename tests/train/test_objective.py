"""What the objective shows to the networks that judge."""

import torch

from mmfa.train.objective import grey, without_inside


def test_grey_is_the_luma_three_times() -> None:
    image = torch.zeros(1, 3, 4, 4)
    image[:, 1] = 1.0
    torch.testing.assert_close(grey(image), torch.full((1, 3, 4, 4), 0.587))
    torch.testing.assert_close(grey(torch.ones(1, 3, 4, 4)), torch.ones(1, 3, 4, 4))


def test_the_inside_of_a_mouth_is_shown_but_takes_no_gradient() -> None:
    openings = torch.full((1, 4, 16, 16), -0.5)
    openings[:, 0, 4:12, 4:12] = 0.3  # the driving mouth
    openings[:, 1:, :2, :2] = 0.3  # an eye, and what the photo has
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    shown = without_inside(image, openings)
    assert torch.equal(shown, image)
    shown.sum().backward()
    assert image.grad is not None
    assert not image.grad[..., 22:42, 22:42].any(), "inside"
    assert bool((image.grad[..., :12, :] == 1).all() and (image.grad[..., 54:, :] == 1).all()), "all around, eyes included"


def test_a_closed_mouth_and_a_model_without_outlines_take_all_of_it() -> None:
    for openings in (None, torch.full((1, 4, 16, 16), 0.01)):
        image = torch.rand(1, 3, 64, 64, requires_grad=True)
        without_inside(image, openings).sum().backward()
        assert bool((image.grad == 1).all())
