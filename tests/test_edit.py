"""Editing motion: each attribute moves alone, the algebra holds, and the shipped model obeys."""

import itertools
import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfa.animate import parse_modes, relative_motion
from mmfa.edit import (
    ATTRIBUTES,
    POSSIBLE,
    TRAINED,
    Amplitude,
    Attribute,
    Edit,
    RangeWarning,
    Span,
    attribute_grid,
    canonical_motion,
    neutralise,
    parse_attributes,
    set_pose,
    take,
    turntable,
    within_limits,
)
from mmfa.errors import ConfigError, MediaError, ModelError
from mmfa.geometry import euler_to_matrix, matrix_to_euler
from mmfa.media.image import Array
from mmfa.models.paper import tiny_paper
from mmfa.motion import Motion
from mmfa.portrait import KeypointModel
from mmfa.priors.landmarks import detect_single
from mmfa.priors.pose import head_pose
from mmfa.registry import build

NAMES = (*ATTRIBUTES, "intensity")


def clip(count: int = 3, *, seed: int = 0, fps: float | None = None) -> Motion:
    random = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random)

    return Motion(
        rotation=euler_to_matrix(*(60 * (uniform(3, count) - 0.5))),
        scale=0.5 + uniform(count, 1),
        translation=(uniform(count, 3) - 0.5) * torch.tensor([0.4, 0.4, 0.0]),
        expression=uniform(count, 8),
        intensity=uniform(count, 1),
        fps=fps,
    )


def assert_same(a: Motion, b: Motion, *names: str) -> None:
    for name in names or NAMES:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=2e-6, rtol=1e-5)


# -- taking -------------------------------------------------------------------------------------------------------------


def test_take_all_is_the_driver_and_take_none_is_the_source() -> None:
    source, driving = clip(1, seed=1), clip(5, seed=2, fps=30.0)
    everything, nothing = take(source, driving, ATTRIBUTES), take(source, driving, [])
    assert all(torch.equal(getattr(everything, name), getattr(driving, name)) for name in NAMES)
    assert all(torch.equal(getattr(nothing, name), getattr(source.expand(5), name)) for name in NAMES)
    assert everything.fps == nothing.fps == 30


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_take_moves_the_named_attribute_alone(attribute: Attribute) -> None:
    source, driving = clip(1, seed=1), clip(4, seed=2)
    taken = take(source, driving, [attribute])
    from_driver = {attribute, "intensity"} if attribute == "expression" else {attribute}
    for name in NAMES:
        assert torch.equal(getattr(taken, name), getattr(driving if name in from_driver else source.expand(4), name))


def test_take_from_one_motion_holds_over_a_clip() -> None:
    source, driving = clip(4, seed=1, fps=25.0), clip(1, seed=2)
    taken = take(source, driving, ["expression"])
    assert len(taken) == 4 and taken.fps == 25
    assert_same(taken, source, "rotation", "scale", "translation")
    assert_same(taken, driving.expand(4), "expression", "intensity")


def test_what_does_not_go_together() -> None:
    with pytest.raises(ConfigError, match="4 and 3 frames"):
        take(clip(4), clip(3), ["scale"])
    with pytest.raises(ModelError, match="different models"):
        take(clip(1), replace(clip(2), expression=torch.zeros(2, 5)), ["scale"])


def test_words_for_attributes() -> None:
    assert parse_attributes("rotation, expression") == ["rotation", "expression"]
    for text, hint in (("rotation,expresion", "did you mean expression"), ("xyz", "choose from rotation, scale")):
        with pytest.raises(ConfigError, match=hint):
            parse_attributes(text)


# -- setting by hand ----------------------------------------------------------------------------------------------------


@given(st.floats(-80, 80), st.floats(-150, 150), st.floats(-150, 150))
@settings(max_examples=50, deadline=None)
def test_angles_that_are_set_read_back(yaw: float, pitch: float, roll: float) -> None:
    motion = clip(2)
    for name, angle in {"pitch": pitch, "yaw": yaw, "roll": roll}.items():
        read = matrix_to_euler(set_pose(motion, **{name: angle}).rotation)
        wanted = [
            torch.full((2,), angle) if key == name else own
            for key, own in zip(("pitch", "yaw", "roll"), matrix_to_euler(motion.rotation), strict=True)
        ]
        torch.testing.assert_close(torch.stack(read), torch.stack(wanted), atol=2e-3, rtol=1e-4)
    read = matrix_to_euler(set_pose(motion, yaw=yaw, pitch=pitch, roll=roll).rotation)
    torch.testing.assert_close(torch.stack(read)[:, 0], torch.tensor([pitch, yaw, roll]), atol=2e-3, rtol=1e-4)


def test_edits_of_different_attributes_commute() -> None:
    motion = clip(3, fps=25.0)
    edits = [Edit(yaw=10.0), Edit(scale=1.2), Edit(tx=0.1, ty=-0.05), Edit(expression=clip(1, seed=5)), Edit(roll=-20.0)]
    whole = Edit(yaw=10.0, roll=-20.0, scale=1.2, tx=0.1, ty=-0.05, expression=edits[3].expression).apply(motion)
    for order in itertools.permutations(edits):
        edited = motion
        for edit in order:
            edited = edit.apply(edited)
        assert_same(edited, whole)


def test_units_of_the_sliders() -> None:
    motion = clip(1)
    edited = Edit(scale=1.5, tx=0.25, ty=-0.1, intensity=0.7).apply(motion)
    torch.testing.assert_close(edited.scale, 1.5 * motion.scale)
    torch.testing.assert_close(edited.translation - motion.translation, torch.tensor([[0.5, -0.2, 0.0]]))
    assert edited.intensity.item() == pytest.approx(0.7)
    assert_same(edited, motion, "rotation", "expression")
    assert_same(Edit().apply(motion), motion)


def test_neutral_keeps_the_pose_and_drops_the_deformation() -> None:
    motion = replace(clip(2), expression=torch.randn(2, 64))
    model = build("tiny")
    assert isinstance(model, KeypointModel)
    for neutral in (neutralise(motion), Edit(expression="neutral").apply(motion)):
        assert_same(neutral, motion, "rotation", "scale", "translation")
        assert not model.keypoints(torch.rand(2, 65, 3), neutral)[1].any()
    with pytest.raises(ConfigError, match="one of the two"):
        Edit(expression="neutral", intensity=0.5)


# -- time ranges --------------------------------------------------------------------------------------------------------


def test_frames_outside_the_range_stay_bit_for_bit() -> None:
    motion = clip(100, fps=25.0)
    edit = Edit(yaw=20.0, scale=1.3, tx=0.1, expression="neutral")
    edited, whole = edit.apply(motion, span=Span(start=1.0, end=3.0)), edit.apply(motion)
    for name in NAMES:
        before, after, full = (getattr(m, name) for m in (motion, edited, whole))
        assert torch.equal(after[:26], before[:26]) and torch.equal(after[75:], before[75:])
        torch.testing.assert_close(after[33:68], full[33:68])
    torch.testing.assert_close(
        edited.rotation @ edited.rotation.transpose(1, 2), torch.eye(3).expand(100, 3, 3), atol=1e-5, rtol=0
    )


def test_ramps_are_eased() -> None:
    weights = Span(start=1.0, end=3.0, ramp=0.4).weights(100, fps=25.0)
    assert ((weights >= 0) & (weights <= 1)).all()
    up, down = weights[25:36], weights[65:76]
    assert (up.diff() > 0).all() and (down.diff() < 0).all() and weights[36:65].eq(1).all()
    torch.testing.assert_close(up, down.flip(0))
    assert up.diff()[0] < up.diff()[5] / 4, "slow at first"


def test_the_clips_own_borders_have_no_ramp() -> None:
    assert Span(end=2.0).weights(100, fps=25.0)[0] == 1 and Span(start=2.0).weights(100, fps=25.0)[-1] == 1
    assert Span().weights(10, fps=25.0).eq(1).all()
    short = Span(start=1.0, end=1.24, ramp=5).weights(100, fps=25.0)
    assert short.max() > 0.9, "a ramp longer than the range is cut to half of it"


@pytest.mark.parametrize(("start", "end"), [(5.0, None), (1.0, 4.5), (-1.0, 2.0), (float("nan"), None)])
def test_ranges_outside_the_clip(start: float, end: float | None) -> None:
    with pytest.raises(MediaError, match=r"lasts 4\.00 s"):
        Span(start=start, end=end).weights(100, fps=25.0)
    with pytest.raises(MediaError, match="before it starts"):
        Span(start=3.0, end=2.0).weights(100, fps=25.0)


# -- limits -------------------------------------------------------------------------------------------------------------


def test_an_offset_is_added_to_whatever_expression_is_set() -> None:
    motion, other, offset = clip(3), clip(1, seed=5), torch.ones(1, 8)
    assert_same(Edit(offset=offset).apply(motion), replace(motion, expression=motion.expression + 1))
    edited = Edit(expression=other, offset=offset).apply(motion)
    assert_same(edited, replace(take(motion, other, ["expression"]), expression=other.expression.expand(3, 8) + 1))
    with pytest.raises(ConfigError, match="neutral"):
        Edit(expression="neutral", offset=offset)


def test_values_in_range_pass_silently() -> None:
    edit = Edit(yaw=35.0, pitch=-25.0, roll=30.0, scale=0.6, tx=0.25, ty=-0.25, intensity=1.5, expression=clip(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert edit.limited() == edit and Amplitude(lips=1.2, eyes=0.0).limited() == Amplitude(lips=1.2, eyes=0.0)


def test_values_beyond_training_warn_and_are_clipped_unless_unclipped() -> None:
    for name in ("yaw", "pitch", "roll", "scale", "tx", "ty", "intensity", "lips", "eyes"):
        low, high = getattr(TRAINED, name)
        beyond = high * 1.1
        with pytest.warns(RangeWarning, match=f"{name} .* clipped to {high:g}"):
            assert within_limits(name, beyond) == high
        with pytest.warns(RangeWarning, match="kept"):
            assert within_limits(name, beyond, unclipped=True) == beyond
        for absurd in (1e9, -1e9, float("nan"), float("inf")):
            with pytest.raises(ConfigError, match=f"for {name} makes no sense"):
                within_limits(name, absurd, unclipped=True)
        assert getattr(POSSIBLE, name)[0] <= low
    with pytest.warns(RangeWarning, match="smile .* clipped to 2"):
        assert within_limits("smile", 2.5, kind="direction") == 2
    with pytest.warns(RangeWarning):
        assert Edit(yaw=50.0).limited().yaw == 35


# -- lips and eyes ------------------------------------------------------------------------------------------------------


def test_amplitude_scales_its_own_keypoints_alone() -> None:
    model = build("tiny").eval()
    assert isinstance(model, KeypointModel)
    canonical, motion = torch.rand(2, 65, 3), replace(clip(2), expression=torch.randn(2, 64))
    plain = model.keypoints(canonical, motion)[1]
    changed = model.keypoints(canonical, motion, gain=model.gain(lips=1.2, eyes=0.5))[1]
    torch.testing.assert_close(changed[:, :20], 1.2 * plain[:, :20])
    torch.testing.assert_close(changed[:, 20:38], 0.5 * plain[:, 20:38])
    assert torch.equal(changed[:, 38:], plain[:, 38:])
    assert model.gain(lips=1.0, eyes=1.0) is None


def test_amplitude_needs_anchored_keypoints() -> None:
    model = build(tiny_paper())
    assert model.gain(lips=1.0, eyes=1.0) is None
    with pytest.raises(ModelError, match="no lips or eyes"):
        model.gain(lips=1.1, eyes=1.0)


# -- relative and absolute ----------------------------------------------------------------------------------------------


def test_modes_are_chosen_per_attribute() -> None:
    source, driving = clip(1, seed=1), clip(6, seed=2, fps=25.0)
    relative = relative_motion(source, driving, anchor=2)
    assert_same(relative_motion(source, driving, anchor=2, mode="absolute"), driving)
    mixed = relative_motion(source, driving, anchor=2, mode="rotation=absolute, expression=relative")
    assert_same(mixed, driving, "rotation")
    assert_same(mixed, relative, "scale", "translation", "expression")
    assert_same(relative_motion(source, driving, anchor=2, mode={"scale": "absolute"}), driving, "scale")
    assert_same(relative[2], source, *ATTRIBUTES)
    for text, hint in (
        ("rotaton=absolute", "did you mean rotation"),
        ("fast", "write relative"),
        ("scale=more", "write relative"),
    ):
        with pytest.raises(ConfigError, match=hint):
            parse_modes(text)


# -- figures ------------------------------------------------------------------------------------------------------------


def test_turntable_moves_one_angle_at_a_time_and_comes_home() -> None:
    motion = clip(1)
    table = turntable(motion, seconds=1.0, fps=25)
    assert len(table) == 75 and table.fps == 25
    pitch, yaw, roll = matrix_to_euler(table.rotation)
    own = torch.cat(matrix_to_euler(motion.rotation))
    for part, moving, reach in ((slice(0, 25), yaw, 25), (slice(25, 50), pitch, 15), (slice(50, 75), roll, 25)):
        assert float(moving[part].max()) == pytest.approx(reach, abs=0.5) and float(moving[part].min()) == pytest.approx(
            -reach, abs=0.5
        )
        for still, angle in zip((pitch, yaw, roll), own, strict=True):
            if still is not moving:
                torch.testing.assert_close(still[part], angle.expand(25), atol=1e-3, rtol=0)
    for ends in (0, 24, 25, 49, 50, 74):
        torch.testing.assert_close(table.rotation[ends], motion.rotation[0], atol=1e-5, rtol=0)
    assert_same(table, motion.expand(75), "scale", "translation", "expression", "intensity")


def test_grid_moves_one_attribute_per_row() -> None:
    motion = clip(1)
    rows = attribute_grid(motion, columns=5)
    assert [len(row) for row in rows] == [5] * 5
    changed = ("rotation", "rotation", "rotation", "scale", "intensity")
    for row, name in zip(rows, changed, strict=True):
        assert_same(row, motion.expand(5), *(other for other in NAMES if other != name))
        assert not torch.allclose(getattr(row, name)[0], getattr(row, name)[-1])
    assert rows[4].intensity.flatten().tolist() == [0, 0.375, 0.75, 1.125, 1.5]


# -- the shipped model obeys --------------------------------------------------------------------------------------------


@pytest.fixture
def ready(animator, portrait):
    animator.set_source(portrait)
    return animator


def angles(image: Array) -> tuple[float, float, float]:
    """Pitch, yaw and roll in degrees that the landmarks of a picture show."""
    pitch, yaw, roll = matrix_to_euler(head_pose(detect_single(image).points[None]).rotation)
    return float(pitch), float(yaw), float(roll)


def test_asked_yaw_is_seen(ready) -> None:
    own = ready.source.signal
    shown = {yaw: angles(next(ready.render(set_pose(own, yaw=yaw), paste_back=False)))[1] for yaw in (0.0, 15.0, -15.0)}
    assert 5 < shown[15.0] - shown[0.0] < 25 and -25 < shown[-15.0] - shown[0.0] < -5


def test_canonical_face_is_frontal_and_framed_as_in_training(ready) -> None:
    image = next(ready.render(canonical_motion(ready.source.signal), paste_back=False))
    assert all(abs(angle) < 6 for angle in angles(image))
    points = detect_single(image).points[:468, :2]
    low, high = points.amin(0), points.amax(0)
    assert 0.4 < float((high - low).max()) / 2 < 0.6, "the face box fills half of the crop"
    centre = (low + high) / 2
    assert abs(float(centre[0])) < 0.08 and abs(float(centre[1]) - 0.08) < 0.08
