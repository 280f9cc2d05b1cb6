"""The metrics as functions: against independent libraries, and on landmarks and pixels made by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from mmfa.evaluate import metrics
from mmfa.evaluate.bootstrap import correlation
from mmfa.evaluate.metrics import MESH68
from mmfa.evaluate.validation import blurred, noisy
from mmfa.geometry import euler_to_matrix
from mmfa.media.image import Array
from mmfa.priors.landmarks import mouth_opening
from mmfa.priors.pose import template


def images(frames: list[Array]) -> Tensor:
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def pair(frames: list[Array]) -> tuple[list[Array], list[Array]]:
    """Noise, blur, another frame, a half-black frame; and what they came from."""
    dark = frames[0].copy()
    dark[:, :128] = 0
    return [noisy(frames[0], 12), blurred(frames[1], 2), frames[4], dark], [frames[0], frames[1], frames[2], frames[0]]


def test_psnr_is_that_of_scikit_image(pair: tuple[list[Array], list[Array]]) -> None:
    expected = [peak_signal_noise_ratio(b, a) for a, b in zip(*pair, strict=True)]
    np.testing.assert_allclose(metrics.psnr(images(pair[0]), images(pair[1])), expected, rtol=0, atol=1e-5)


def test_ssim_is_that_of_scikit_image(pair: tuple[list[Array], list[Array]]) -> None:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    expected = [structural_similarity(a, b, **options) for a, b in zip(*pair, strict=True)]
    np.testing.assert_allclose(metrics.ssim(images(pair[0]), images(pair[1])), expected, rtol=0, atol=1e-5)


def test_psnr_and_ssim_are_those_of_torchmetrics(pair: tuple[list[Array], list[Array]]) -> None:
    functional = pytest.importorskip("torchmetrics.functional.image")
    a, b = (images(side)[..., 80:176, 80:176] for side in pair)
    psnr = functional.peak_signal_noise_ratio(a.double(), b.double(), data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(metrics.psnr(a, b), psnr, rtol=0, atol=1e-5)
    options = {"data_range": 1.0, "reduction": "none", "return_full_image": True}
    _, full = functional.structural_similarity_index_measure(a.double(), b.double(), **options)
    # Its mean takes in a border of 5 pixels seen through reflections, which Wang et al. leave out.
    torch.testing.assert_close(metrics.ssim(a, b), full[..., 5:-5, 5:-5].mean((1, 2, 3)), rtol=0, atol=1e-5)


def test_identical_images() -> None:
    image = torch.rand(2, 3, 32, 32)
    assert metrics.psnr(image, image).tolist() == [100, 100]
    torch.testing.assert_close(metrics.ssim(image, image), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(metrics.sharpness(image, image), torch.ones(2, dtype=torch.float64))
    assert metrics.flicker(image, image).isnan().tolist() == [True, False] and metrics.flicker(image, image)[1] == 0


def test_psnr_is_a_mean_of_frames_not_of_errors() -> None:
    """Frames 10 and 30 grey levels off: 28.13 dB and 18.59 dB, mean 23.36; pooled errors would give 21.14."""
    grey = torch.full((2, 3, 16, 16), 100 / 255)
    off = grey + torch.tensor([10, 30])[:, None, None, None] / 255
    expected = [20 * math.log10(255 / 10), 20 * math.log10(255 / 30)]
    np.testing.assert_allclose(metrics.psnr(off, grey), expected, atol=1e-4)


def test_flicker_counts_only_changes_that_the_driving_video_lacks() -> None:
    driving = torch.full((4, 3, 16, 16), 0.5)
    driving[2:] += 20 / 255
    blinking = driving.clone()
    blinking[1::2] += 4 / 255
    np.testing.assert_allclose(metrics.flicker(blinking, driving)[1:], [4, 0, 4], atol=1e-4)
    frozen = driving[:1].expand_as(driving)
    assert metrics.flicker(frozen, driving)[1:].abs().max() < 1e-4


def test_flat_driving_frame_has_no_sharpness() -> None:
    assert metrics.sharpness(torch.rand(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.5)).isnan().all()


def head(count: int = 1) -> Tensor:
    """Landmarks (T,478,3) in pixels: the canonical face, its irises midway between their corners."""
    points = template()[0] * 60 + 128
    irises = [(points[a] + points[b]) / 2 for a, b in ((33, 133), (362, 263))]
    return torch.cat([points, irises[0].expand(5, 3), irises[1].expand(5, 3)]).expand(count, -1, -1).clone()


def test_landmark_distances_after_a_known_shift() -> None:
    points = head()
    moved = points + torch.tensor([3.0, 4.0, 50.0])
    for metric, expected in ((metrics.akd_l1_mesh68, 3.5), (metrics.akd_l2_mesh68, 5), (metrics.akd_l2_mesh478, 5)):
        assert float(metric(moved, points)) == pytest.approx(expected, abs=1e-4)


def test_one_moved_landmark_counts_by_its_share() -> None:
    points, moved = head(), head()
    moved[:, 13, 1] += 6.8
    assert float(metrics.akd_l2_mesh68(moved, points)) == pytest.approx(0.1, abs=1e-5)
    assert float(metrics.akd_l1_mesh68(moved, points)) == pytest.approx(0.05, abs=1e-5)
    assert float(metrics.akd_l2_mesh478(moved, points)) == pytest.approx(6.8 / 478, abs=1e-5)


def test_the_68_points_mirror_onto_themselves() -> None:
    """In iBUG's order jaw point i is the mirror of 16 - i, and so on: a wrong index would break the symmetry."""
    mirror = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1)]
    mirror += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mirror += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    assert len(set(MESH68)) == 68 and sorted(mirror) == list(range(68))
    points = template()[0][list(MESH68)]
    flipped = points[mirror] * torch.tensor([-1.0, 1.0, 1.0])
    assert (points - flipped).norm(dim=1).max() < 0.01
    assert (points[8, 1] > points[57, 1] > points[66, 1] > points[62, 1] > points[51, 1] > points[33, 1] > points[27, 1]).all()


@pytest.mark.parametrize("angle", [0.0, 5.0, 90.0, 175.0])
def test_rotation_error_is_the_angle(angle: float) -> None:
    zero = torch.zeros(1)
    start = euler_to_matrix(torch.tensor([12.0]), torch.tensor([-20.0]), torch.tensor([7.0]))
    turn = euler_to_matrix(zero, torch.tensor([angle]), zero)
    assert float(metrics.rotation_error(start @ turn, start)) == pytest.approx(angle, abs=0.03)


def test_apd_is_a_mean_over_three_angles_and_wraps_around() -> None:
    a = euler_to_matrix(torch.tensor([3.0]), torch.tensor([6.0]), torch.tensor([179.0]))
    b = euler_to_matrix(torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([-179.0]))
    assert float(metrics.apd_mesh(a, b)) == pytest.approx(math.radians((3 + 6 + 2) / 3), abs=1e-4)


def test_gaze_error_is_in_eye_widths_and_blind_to_the_head() -> None:
    points, moved = head(), head()
    for iris, left, right in ((468, 33, 133), (473, 362, 263)):
        moved[:, iris, :2] += 0.1 * (points[:, right, :2] - points[:, left, :2])
    assert float(metrics.gaze_error(moved, points)) == pytest.approx(0.1, abs=1e-5)
    turn = euler_to_matrix(torch.zeros(1), torch.zeros(1), torch.tensor([25.0]))
    elsewhere = (moved @ turn.transpose(1, 2)) * 1.7 + torch.tensor([30.0, -12.0, 4.0])
    assert float(metrics.gaze_error(elsewhere, points)) == pytest.approx(0.1, abs=1e-4)


def test_jitter_ignores_steady_motion() -> None:
    steps = torch.arange(6.0)[:, None, None] * torch.tensor([2.0, -1.0, 0.0])
    gliding = head(6) + steps
    assert metrics.jitter(gliding)[1:-1].abs().max() < 1e-3
    shaking = gliding.clone()
    shaking[::2, :, 0] += 0.5
    np.testing.assert_allclose(metrics.jitter(shaking)[1:-1], 1.0, atol=1e-3)
    np.testing.assert_allclose(metrics.jitter_excess(shaking, gliding)[1:-1], 1.0, atol=1e-3)
    assert metrics.jitter(shaking)[[0, -1]].isnan().all() and metrics.jitter(head(2)).isnan().all()


def test_identity_distances() -> None:
    a, b = torch.tensor([[3.0, 4.0, 0.0, 0.0]]), torch.tensor([[0.0, 4.0, 0.0, 0.0]])
    found = [float(metric(a, b)) for metric in (metrics.csim, metrics.aed_l2, metrics.aed_sq, metrics.aed_mean_abs)]
    assert found == pytest.approx([0.8, 3, 9, 0.75])
    assert float(metrics.csim_faceres(2 * a, a)) == pytest.approx(1)


def test_a_missed_face_is_marked_not_dropped() -> None:
    missed = head(5)
    missed[2] = math.nan
    for metric in (metrics.akd_l1_mesh68, metrics.akd_l2_mesh68, metrics.akd_l2_mesh478, metrics.gaze_error):
        assert metric(missed, head(5)).isnan().tolist() == [False, False, True, False, False]
    assert metrics.jitter(missed).isnan().all()
    flags = metrics.mkr(torch.tensor([True, False, False]), torch.tensor([True, True, False]))
    assert flags[:2].tolist() == [0, 1] and flags[2].isnan()


def pearson(measured: Tensor, asked: Tensor) -> float:
    """Of two clips of three frames, as the figures take it."""
    rows = [metrics.centred(a, b) for a, b in zip(measured.split(3), asked.split(3), strict=True)]
    return correlation(torch.cat(rows).numpy())


def test_correlation_follows_within_clips_only() -> None:
    asked = torch.tensor([1.0, 2, 3, 11, 12, 13])
    assert pearson(asked * 2, asked) == pytest.approx(1)
    # The clips' levels agree, but inside each clip the output does the opposite.
    assert pearson(torch.tensor([3.0, 2, 1, 13, 12, 11]), asked) == pytest.approx(-1)
    noise = torch.tensor([0.3, -0.2, 0.9, 0.1, 0.5, -0.4])
    own, other = (np.concatenate([x[:3] - x[:3].mean(), x[3:] - x[3:].mean()]) for x in (noise.numpy(), asked.numpy()))
    expected = np.corrcoef(own, other)
    assert pearson(noise, asked) == pytest.approx(expected[0, 1], abs=1e-6)
    assert math.isnan(pearson(torch.ones(6), asked))
    holes = asked.clone()
    holes[1] = math.nan
    assert pearson(holes, asked) == pytest.approx(1)
    assert metrics.centred(holes[:3], asked[:3]).isnan().all(1).tolist() == [False, True, False]


def test_yaw_mouth_and_eye_correlations() -> None:
    count = 8
    wave = torch.linspace(-1, 1, count)
    rotation = euler_to_matrix(torch.zeros(count), 20 * wave, torch.zeros(count))
    assert correlation(metrics.yaw_r(rotation, rotation).numpy()) == pytest.approx(1)
    assert correlation(metrics.yaw_r(rotation.transpose(1, 2), rotation).numpy()) == pytest.approx(-1)
    none = torch.zeros(count, dtype=torch.float64)
    still = euler_to_matrix(none, 5 + 4e-7 * wave.double(), none)
    assert math.isnan(correlation(metrics.yaw_r(still, rotation.double()).numpy()))  # nothing but rounding
    talking, blinking = head(count), head(count)
    talking[:, 14, 1] += 5 + 4 * wave
    blinking[:, 145, 1] += 3 * wave
    assert mouth_opening(talking).std() > 0.01
    assert correlation(metrics.mouth_r(talking, talking.flip(0)).numpy()) == pytest.approx(-1, abs=1e-3)
    assert correlation(metrics.eye_r(blinking, blinking).numpy()) == pytest.approx(1)
    assert math.isnan(correlation(metrics.mouth_r(blinking, talking).numpy()))


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.psnr(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 17)),
        lambda: metrics.ssim(torch.rand(1, 3, 10, 10), torch.rand(1, 3, 10, 10)),
        lambda: metrics.akd_l2_mesh68(torch.rand(2, 468, 3), torch.rand(2, 468, 3)),
        lambda: metrics.csim(torch.rand(2, 128), torch.rand(1, 128)),
        lambda: metrics.rotation_error(torch.rand(1, 3), torch.rand(1, 3)),
        lambda: metrics.mkr(torch.ones(3), torch.ones(3)),
        lambda: metrics.centred(torch.ones(3), torch.ones(2)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call) -> None:
    with pytest.raises(ValueError, match="must be"):
        call()
