"""EfficientNet-Lite0 taps: shapes, gradient and batch independence (skipped without the optional package)."""

import pytest
import torch

from mmfa.priors import perceptual

pytestmark = pytest.mark.skipif(not perceptual.available(), reason=f"{perceptual.PACKAGE} is not installed")


@pytest.fixture(scope="module")
def network() -> perceptual.EfficientNetLite0:
    return perceptual.EfficientNetLite0()


def test_tap_shapes(network: perceptual.EfficientNetLite0) -> None:
    taps = network(torch.rand(1, 3, 96, 64))
    assert [tuple(tap.shape) for tap in taps] == [
        (1, 32, 48, 32), (1, 24, 24, 16), (1, 40, 12, 8), (1, 80, 6, 4), (1, 112, 6, 4),
    ]  # fmt: skip
    assert [tap.shape[1] for tap in taps] == list(network.TAP_CHANNELS)


def test_gradient_reaches_image_but_not_weights(network: perceptual.EfficientNetLite0) -> None:
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    sum(tap.square().mean() for tap in network(image)).backward()
    assert image.grad is not None and image.grad.isfinite().all() and image.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_batch_is_singles(network: perceptual.EfficientNetLite0) -> None:
    images = torch.rand(2, 3, 64, 64)
    both = network(images)
    for index in range(2):
        for tap, single in zip(both, network(images[index : index + 1]), strict=True):
            torch.testing.assert_close(tap[index : index + 1], single, atol=1e-4, rtol=1e-4)


def test_missing_file_names_the_package(tmp_path) -> None:
    with pytest.raises(ValueError, match="efficientnet-lite0"):
        perceptual.EfficientNetLite0(tmp_path / "absent.pth")
