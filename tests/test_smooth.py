"""Smoothing: less jitter, no lag, nothing swallowed, and the same live as on a file."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from mmfa.errors import ConfigError, ModelError
from mmfa.geometry import euler_to_matrix, matrix_to_euler
from mmfa.motion import Motion
from mmfa.smooth import MotionSmoother, jitter, smooth

NAMES = ("rotation", "scale", "translation", "expression", "intensity")


def clip(yaw: torch.Tensor, *, noise: float = 0.0, seed: int = 0, fps: float = 25.0) -> Motion:
    """Every attribute follows `yaw` (degrees), each with noise of its own."""
    random = torch.Generator().manual_seed(seed)

    def trembling(*shape: int) -> torch.Tensor:
        return noise * torch.randn(*shape, generator=random)

    count = len(yaw)
    pitch, shaken, roll = trembling(3, count) + torch.stack([0 * yaw, yaw, 0 * yaw])
    return Motion(
        rotation=euler_to_matrix(pitch, shaken, roll),
        scale=(0.01 * (yaw[:, None] + trembling(count, 1))).exp(),
        translation=0.01 * (yaw[:, None] + trembling(count, 3)),
        expression=yaw[:, None] * torch.ones(16) + trembling(count, 16),
        fps=fps,
    )


def lag(smoothed: torch.Tensor, true: torch.Tensor, slope: float) -> float:
    """Frames that a ramp of `slope` per frame is late, once the filter has settled."""
    return float((true - smoothed)[100:].mean() / slope)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("slope", [0.1, 0.4])
def test_ramp_with_noise_jitters_half_as_much_and_is_not_late(strength: float, slope: float) -> None:
    true = slope * (torch.arange(200.0) - 100)
    motion = clip(true, noise=0.3)
    result = smooth(motion, strength)
    before, after = jitter(motion), jitter(result)
    for field in fields(before):
        assert getattr(after, field.name) < 0.5 * getattr(before, field.name), field.name
    assert abs(lag(matrix_to_euler(result.rotation)[1], true, slope)) < 1
    assert abs(lag(100 * result.scale[:, 0].log(), true, slope)) < 1
    assert abs(lag(100 * result.translation[:, 0], true, slope)) < 1
    assert abs(lag(result.expression.mean(1), true, slope)) < 1


def test_a_blink_survives_and_does_not_swing() -> None:
    eye = torch.zeros(60)
    eye[30:34] = torch.tensor([-6.0, -10.0, -10.0, -5.0])
    result = smooth(clip(eye, noise=0.2)).expression.mean(1)
    assert result[30:34].min() < -9, "a blink of 160 ms keeps nine tenths of its depth"
    assert int(result.argmin()) in (31, 32), "at its own time"
    assert result[34:].abs().max() < 3 and result[40:].abs().max() < 1.2


def test_strength_zero_changes_nothing() -> None:
    motion = clip(torch.arange(20.0), noise=0.5)
    result = smooth(motion, 0)
    assert all(torch.equal(getattr(result, name), getattr(motion, name)) for name in NAMES)


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_constant_motion_is_unchanged(strength: float) -> None:
    motion = clip(torch.full((50,), 20.0))
    result = smooth(motion, strength)
    for name in NAMES:
        torch.testing.assert_close(getattr(result, name), getattr(motion, name), atol=1e-5, rtol=1e-5)


def test_rotations_stay_rotations_and_a_straight_ramp_stays_straight() -> None:
    yaw = torch.linspace(-60, 60, 300)
    result = smooth(clip(yaw), 1.0)
    torch.testing.assert_close(
        result.rotation @ result.rotation.transpose(1, 2), torch.eye(3).expand(300, 3, 3), atol=1e-5, rtol=0
    )
    assert (torch.linalg.det(result.rotation) > 0.999).all()
    torch.testing.assert_close(matrix_to_euler(result.rotation)[1], yaw, atol=0.5, rtol=0)


def test_parts_of_any_length_give_what_the_whole_gives() -> None:
    motion = clip(10 * torch.sin(torch.arange(60.0) / 8), noise=0.4)
    smoother = MotionSmoother(0.7, fps=25)
    parts = [smoother(motion[a:b]) for a, b in ((0, 1), (1, 2), (2, 30), (30, 30), (30, 60))]
    whole = smooth(motion, 0.7)
    for name in NAMES:
        torch.testing.assert_close(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name), rtol=0, atol=0)


def test_frame_rate_is_minded() -> None:
    """The cutoff is in hertz: with more frames a second there are more to average, and less noise is left."""
    left = {fps: float(smooth(clip(torch.zeros(400), noise=0.3, fps=fps)).expression[50:].std()) for fps in (15, 25, 60)}
    assert 0.3 > left[15] > 1.1 * left[25] > 1.3 * left[60]


def test_intensity_is_left_alone() -> None:
    motion = replace(clip(torch.arange(9.0), noise=1), intensity=torch.arange(9.0)[:, None])
    assert torch.equal(smooth(motion, 1.0).intensity, motion.intensity)


def test_jitter_is_the_deviation_of_white_noise() -> None:
    motion = clip(0.2 * torch.arange(4000.0) - 40 * (torch.arange(4000) // 400), noise=0.3)
    still = clip(torch.zeros(4000), noise=0.3)
    assert jitter(still).rotation == pytest.approx(0.3 * 3**0.5, rel=0.05)
    assert jitter(still).scale == pytest.approx(0.3, rel=0.05)
    assert jitter(still).translation == pytest.approx(0.3 * 3**0.5 / 2, rel=0.05)
    assert jitter(still).expression == pytest.approx(0.3 * 4, rel=0.05)
    assert jitter(motion).expression > jitter(still).expression
    assert jitter(clip(torch.arange(50.0) / 10)).rotation == pytest.approx(0, abs=0.02), "an even turn doesn't tremble"


def test_bad_values() -> None:
    for strength in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="between 0"):
            MotionSmoother(strength)
    with pytest.raises(ConfigError, match="frames per second"):
        MotionSmoother(fps=0)
    with pytest.raises(ConfigError, match="three frames"):
        jitter(clip(torch.zeros(2)))
    smoother = MotionSmoother()
    smoother(clip(torch.zeros(2)))
    with pytest.raises(ModelError, match="16 expression features, the other 3"):
        smoother(replace(clip(torch.zeros(2)), expression=torch.zeros(2, 3)))


def test_talking_man_keeps_his_mouth_and_trembles_less(animator, carphone_frames) -> None:
    """On a real driver: decoded lips before and after, same canonical face."""
    motion = animator.motion_of(carphone_frames[::2], fps=15.0).signal
    result = smooth(motion)
    before, after = jitter(motion), jitter(result)
    assert after.rotation < 0.9 * before.rotation and after.expression < 0.9 * before.expression

    def opening(clip: Motion) -> np.ndarray:
        canonical = animator.session.engine.model.canonical_detector(torch.zeros(1, 478, 3)).expand(len(clip), -1, -1)
        placed = canonical + animator.session.engine.model.keypoints(canonical, clip)[1]
        return (placed[:, 14] - placed[:, 18]).norm(dim=1).detach().numpy()  # the inner lips' middle, 13 and 14

    raw, smoothed = opening(motion), opening(result)
    assert np.corrcoef(raw, smoothed)[0, 1] > 0.95
    assert np.ptp(smoothed) > 0.9 * np.ptp(raw)
