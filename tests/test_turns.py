"""Turns that a photo can't show are eased."""

import torch

from mmfa.edit import set_pose
from mmfa.geometry import euler_to_matrix, matrix_to_euler
from mmfa.motion import Motion
from mmfa.relative import limit_turn


def turned(yaw: list[float], pitch: float = 0.0, roll: float = 0.0) -> Motion:
    count = len(yaw)
    angles = torch.full((count,), pitch), torch.tensor(yaw), torch.full((count,), roll)
    zeros = torch.zeros(count, 3)
    return Motion(
        rotation=euler_to_matrix(*angles), scale=torch.ones(count, 1), translation=zeros, expression=torch.zeros(count, 4)
    )


def test_within_limits_nothing_changes_a_bit() -> None:
    motion = turned([-35.0, -20.0, 0.0, 34.9], pitch=12.0, roll=70.0)
    assert torch.equal(limit_turn(motion, turned([0.0])).rotation, motion.rotation)


def test_beyond_them_turns_ease_to_45_degrees_without_a_jump_or_a_step_back() -> None:
    motion = turned([float(yaw) for yaw in range(-80, 81)], pitch=5.0, roll=20.0)
    pitch, yaw, roll = matrix_to_euler(limit_turn(motion, turned([0.0])).rotation)
    assert bool((yaw.diff() > -1e-3).all()) and float(yaw.diff().max()) < 1.01
    assert 43 < float(yaw.max()) <= 45.01 and float(yaw.min()) == -float(yaw.max())
    torch.testing.assert_close(pitch, torch.full_like(pitch, 5.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(roll, torch.full_like(roll, 20.0), atol=1e-3, rtol=0)


def test_a_photo_that_looks_farther_aside_keeps_its_own_pose() -> None:
    own = set_pose(turned([0.0]), yaw=52.0, pitch=None, roll=None)
    assert torch.equal(limit_turn(own, own).rotation, own.rotation)
    _, yaw, _ = matrix_to_euler(limit_turn(turned([80.0]), own).rotation)
    assert 52 < float(yaw) <= 62
