"""The Frechet distance against SciPy and torchmetrics, in parts, for few frames, and by N."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from mmfa.errors import MediaError
from mmfa.evaluate.appearance import AppearanceMeasurer
from mmfa.evaluate.frechet import FeatureStatistics, frechet_distance
from mmfa.evaluate.validation import frechet_by_count
from mmfa.media.image import Array


def features(count: int, *, shift: float = 0.0, seed: int = 0, dimensions: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=generator)
    return torch.randn(count, dimensions, generator=generator) @ mixing + shift


def by_scipy(a: Tensor, b: Tensor) -> float:
    x, y = a.double().numpy(), b.double().numpy()
    product = sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False))
    spread = np.trace(np.cov(x, rowvar=False)) + np.trace(np.cov(y, rowvar=False)) - 2 * np.trace(product.real)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + spread)


@pytest.mark.parametrize("shift", [0.0, 0.5, 20.0])
def test_is_that_of_scipy(shift: float) -> None:
    a, b = features(200), features(300, shift=shift, seed=1)
    expected = by_scipy(a, b)
    assert frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b)) == pytest.approx(expected, rel=1e-5)


def test_is_that_of_torchmetrics() -> None:
    image = pytest.importorskip("torchmetrics.image.fid")

    class Pixels(nn.Module):
        num_features = 12

        def forward(self, images: Tensor) -> Tensor:
            return images.double().flatten(1)

    theirs = image.FrechetInceptionDistance(feature=Pixels(), normalize=True, input_img_size=(3, 2, 2)).set_dtype(torch.float64)
    a, b = torch.rand(60, 3, 2, 2), torch.rand(80, 3, 2, 2) ** 2
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    ours = frechet_distance(*(FeatureStatistics.of(x.double().flatten(1)) for x in (b, a)))
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-5)


def test_known_gaussians() -> None:
    """Same shape, means 3 apart: 9. Spread 2 against 1 in each of 16 dimensions: 16."""
    a = features(500)
    near = frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(a + torch.eye(16)[0] * 3))
    assert near == pytest.approx(9, abs=1e-4)
    white = torch.linalg.qr(a.double() - a.double().mean(0))[0] * (len(a) - 1) ** 0.5
    assert frechet_distance(FeatureStatistics.of(white), FeatureStatistics.of(2 * white)) == pytest.approx(16, abs=1e-6)


def test_parts_equal_the_whole_in_any_order() -> None:
    a = features(100)
    parts = FeatureStatistics(16).add(a[70:]).add(a[:1]).add(a[1:70])
    whole = FeatureStatistics.of(a)
    torch.testing.assert_close(parts.covariance, whole.covariance)
    assert parts.count == 100 and frechet_distance(parts, whole) == pytest.approx(0, abs=1e-6)


def test_fewer_frames_than_dimensions_still_work() -> None:
    a, b = features(5), features(7, seed=2)
    distance = frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b))
    assert distance == pytest.approx(frechet_distance(FeatureStatistics.of(b), FeatureStatistics.of(a)), rel=1e-6)
    assert distance == pytest.approx(by_scipy(a, b), rel=1e-3)


def test_one_frame_and_nan_are_refused() -> None:
    with pytest.raises(MediaError, match="at least 2 frames"):
        frechet_distance(FeatureStatistics.of(features(1)), FeatureStatistics.of(features(9)))
    with pytest.raises(ValueError, match="finite"):
        FeatureStatistics.of(torch.full((3, 16), torch.nan))


def test_the_distance_of_a_distribution_to_itself_falls_as_one_over_n(
    appearance: AppearanceMeasurer, frames: list[Array]
) -> None:
    found = frechet_by_count(torch.cat(list(appearance.features(frames))), (128, 512, 2048))
    assert found[128] / found[512] == pytest.approx(4, rel=0.4) and found[512] / found[2048] == pytest.approx(4, rel=0.4)


def test_identical_frames_have_distance_zero(appearance: AppearanceMeasurer, frames: list[Array]) -> None:
    side = FeatureStatistics.of(torch.cat(list(appearance.features(frames))))
    assert frechet_distance(side, side) == pytest.approx(0, abs=1e-4 * float(side.covariance.trace()))
