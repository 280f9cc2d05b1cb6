from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mmfa.errors import ConfigError, MediaError, ModelError
from mmfa.geometry import euler_to_matrix, geodesic_angle
from mmfa.motion import (
    COMPOSITIONS,
    Motion,
    blend,
    compose,
    crossfade,
    jacobian,
    loop,
    rotation_exp,
    rotation_log,
    stretch,
)
from mmfa.portrait import KeypointModel
from mmfa.registry import build

NAMES = ("rotation", "scale", "translation", "expression")


def _motion(count=3, *, seed=0, fps=None):
    torch.manual_seed(seed)
    return Motion(
        rotation=euler_to_matrix(*(60 * (torch.rand(3, count) - 0.5))),
        scale=0.5 + torch.rand(count, 1),
        translation=torch.randn(count, 3) * torch.tensor([0.1, 0.1, 0.0]),
        expression=torch.randn(count, 8),
        fps=fps,
    )


def _same(a, b):
    for name in NAMES:
        torch.testing.assert_close(getattr(a, name), getattr(b, name))


def _tensors():
    motion = _motion()
    return {name: getattr(motion, name) for name in NAMES}


def test_slices_are_batches():
    motion = _motion(fps=25.0)
    assert len(motion[1]) == len(motion[-1]) == 1
    _same(motion[-1], motion[2])
    _same(motion[torch.tensor([2, 0])], Motion.concatenate([motion[2], motion[0]]))
    assert motion[1:].fps == 25.0
    with pytest.raises(IndexError, match="3 of 3"):
        motion[3]


def test_concatenated_slices_are_the_whole():
    motion = _motion(fps=25.0)
    whole = Motion.concatenate([motion[0], motion[1:]])
    _same(whole, motion)
    assert whole.fps == 25.0
    with pytest.raises(ValueError, match="empty"):
        Motion.concatenate([])


def test_expand_repeats_one_motion():
    motion = _motion()[0]
    _same(motion.expand(2), Motion.concatenate([motion, motion]))


@pytest.mark.parametrize("name", NAMES)
def test_wrong_shapes_are_named(name):
    tensors = _tensors()
    tensors[name] = torch.zeros(2, 5, 5)
    with pytest.raises(ValueError, match="has shape"):
        Motion(**tensors)


@pytest.mark.parametrize("fps", [None, 29.97])
def test_save_and_load(tmp_path, fps):
    motion = _motion(fps=fps)
    motion.save(tmp_path / "m.safetensors")
    loaded = Motion.load(tmp_path / "m.safetensors")
    _same(loaded, motion)
    assert loaded.fps == fps


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "mmfa-motion", "version": "3"}, "version 3"),
        ({"format": "other", "version": "1"}, "not an mmfa motion"),
        (None, "not an mmfa motion"),
        ({"format": "mmfa-motion", "version": "1", "fps": "fast"}, "fast"),
    ],
)
def test_load_refuses_other_metadata(tmp_path, metadata, message):
    path = tmp_path / "m.safetensors"
    save_file(_tensors(), path, metadata=metadata)
    with pytest.raises(MediaError, match=message):
        Motion.load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_load_refuses_values_that_are_no_numbers(tmp_path, value):
    path, tensors = tmp_path / "m.safetensors", _tensors()
    tensors["scale"][1] = value
    save_file(tensors, path, metadata={"format": "mmfa-motion", "version": "1"})
    with pytest.raises(MediaError, match="not numbers"):
        Motion.load(path)


def test_load_refuses_missing_tensors_wrong_shapes_and_other_files(tmp_path):
    path, metadata = tmp_path / "m.safetensors", {"format": "mmfa-motion", "version": "1"}
    tensors = _tensors()
    save_file({name: tensors[name] for name in NAMES[:3]}, path, metadata=metadata)
    with pytest.raises(MediaError, match="damaged"):
        Motion.load(path)
    save_file({**tensors, "scale": torch.ones(3)}, path, metadata=metadata)
    with pytest.raises(MediaError, match="scale"):
        Motion.load(path)
    path.write_text("hello")
    with pytest.raises(MediaError, match="not a motion file"):
        Motion.load(path)
    with pytest.raises(MediaError, match="does not exist"):
        Motion.load(tmp_path / "none.safetensors")


def test_compositions_agree_without_rotation_and_scale():
    torch.manual_seed(0)
    canonical, deformation = torch.rand(2, 5, 3), 0.1 * torch.rand(2, 5, 3)
    motion = Motion(
        rotation=torch.eye(3).expand(2, 3, 3),
        scale=torch.ones(2, 1),
        translation=torch.rand(2, 3),
        expression=torch.zeros(2, 4),
    )
    wanted = canonical + deformation + motion.translation[:, None]
    for mode in COMPOSITIONS:
        torch.testing.assert_close(compose(canonical, deformation, motion, mode=mode), wanted)


def test_compositions_differ_as_written():
    motion = _motion(1)
    canonical, deformation = torch.rand(1, 1, 3), torch.rand(1, 1, 3)
    r, s, t = motion.rotation[0], motion.scale[0], motion.translation[0]
    x, d = canonical[0, 0], deformation[0, 0]
    wanted = {"mmfa": s * (r @ (x + d)) + t, "liveportrait": s * (r @ x + d) + t, "face-vid2vid": r @ x + t + d}
    for mode in COMPOSITIONS:
        torch.testing.assert_close(compose(canonical, deformation, motion, mode=mode)[0, 0], wanted[mode])
    with pytest.raises(ValueError, match="Unknown composition"):
        compose(canonical, deformation, motion, mode="other")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", COMPOSITIONS)
def test_jacobian_carries_a_neighbourhood_from_driving_to_source(mode):
    source, driving = _motion(3, seed=1), _motion(3, seed=2)
    canonical = torch.rand(3, 4, 3)
    step = 0.01 * torch.randn(3, 4, 3)  # a neighbour of every keypoint, fixed to the face
    zero = torch.zeros_like(canonical)

    def moved(motion):
        return compose(canonical + step, zero, motion, mode=mode) - compose(canonical, zero, motion, mode=mode)

    carried = moved(driving) @ jacobian(source, driving, mode=mode).transpose(1, 2)
    torch.testing.assert_close(carried, moved(source), atol=1e-6, rtol=1e-4)


RATES = ("nan", "-1", "0", "1e-9", "0.01", "1001", "inf", "9" * 500)


@pytest.mark.parametrize(("change", "word"), [({"fps": rate}, "frames per second") for rate in RATES])
def test_load_rejects_a_frame_rate_that_is_none(tmp_path, change, word):
    file = tmp_path / "motion.safetensors"
    tensors = {
        "rotation": torch.eye(3).repeat(2, 1, 1),
        "scale": torch.ones(2, 1),
        "translation": torch.zeros(2, 3),
        "expression": torch.zeros(2, 4),
    }
    save_file(tensors, str(file), metadata={"format": "mmfa-motion", "version": "1", **change})
    with pytest.raises(MediaError, match=word):
        Motion.load(file)
    tensors["scale"][0] = 0
    save_file(tensors, str(file), metadata={"format": "mmfa-motion", "version": "1"})
    with pytest.raises(MediaError, match="not positive"):
        Motion.load(file)


# -- intensity, and what files may hold ---------------------------------------------------------------------------------


def test_intensity_is_one_unless_given_and_travels_along(tmp_path):
    motion = _motion(fps=25.0)
    assert torch.equal(motion.intensity, torch.ones(3, 1))
    strong = replace(motion, intensity=torch.tensor([[0.0], [0.5], [1.5]]))
    assert strong[1].intensity.item() == 0.5
    assert strong[2].expand(4).intensity.tolist() == [[1.5]] * 4
    assert Motion.concatenate([strong[:2], strong[2]]).intensity.flatten().tolist() == [0, 0.5, 1.5]
    strong.save(tmp_path / "m.safetensors")
    assert torch.equal(Motion.load(tmp_path / "m.safetensors").intensity, strong.intensity)


def test_files_of_version_1_still_load(tmp_path):
    save_file(_tensors(), tmp_path / "m.safetensors", metadata={"format": "mmfa-motion", "version": "1", "fps": "30"})
    loaded = Motion.load(tmp_path / "m.safetensors")
    _same(loaded, _motion())
    assert torch.equal(loaded.intensity, torch.ones(3, 1)) and loaded.fps == 30


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("intensity", float("nan"), "not numbers"),
        ("intensity", -0.5, "below 0"),
        ("intensity", 1e9, "1e\\+09 in its intensity"),
        ("expression", 1e6, "expression"),
        ("scale", 1e4, "scale"),
        ("translation", -1e4, "translation"),
        ("rotation", 0.0, "a rotation that is none"),
    ],
)
def test_load_refuses_what_no_motion_has(tmp_path, name, value, word):
    path, tensors = tmp_path / "m.safetensors", _tensors() | {"intensity": torch.ones(3, 1)}
    tensors[name][1] = value
    save_file(tensors, path, metadata={"format": "mmfa-motion", "version": "2"})
    with pytest.raises(MediaError, match=word) as caught:
        Motion.load(path)
    assert str(path) in str(caught.value) and str(caught.value).count("\n") == 0


def test_load_refuses_a_mirrored_rotation(tmp_path):
    tensors = _tensors()
    tensors["rotation"][1] = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "mmfa-motion", "version": "1"})
    with pytest.raises(MediaError, match="rotation that is none"):
        Motion.load(tmp_path / "m.safetensors")


def test_no_deformation_at_intensity_0_and_twice_as_much_at_2():
    model = build("tiny").eval()
    assert isinstance(model, KeypointModel)
    canonical, motion = torch.rand(3, 65, 3), replace(_motion(), expression=torch.randn(3, 64))
    _, once = model.keypoints(canonical, motion)
    placed, none = model.keypoints(canonical, replace(motion, intensity=torch.zeros(3, 1)))
    assert once.abs().max() > 1e-5 and not none.any()
    torch.testing.assert_close(placed, compose(canonical, torch.zeros_like(canonical), motion))
    torch.testing.assert_close(model.keypoints(canonical, replace(motion, intensity=torch.full((3, 1), 2.0)))[1], 2 * once)


# -- between motions ----------------------------------------------------------------------------------------------------

angles = st.tuples(*[st.floats(-179, 179)] * 3)


@given(angles, angles, st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_blended_rotations_lie_on_the_shortest_turn(first, second, weight):
    a, b = (replace(_motion(1), rotation=euler_to_matrix(*torch.tensor(each)[:, None])) for each in (first, second))
    mixed = blend(a, b, weight).rotation
    torch.testing.assert_close(mixed @ mixed.transpose(1, 2), torch.eye(3)[None], atol=1e-5, rtol=0)
    assert torch.linalg.det(mixed).item() == pytest.approx(1, abs=1e-5)
    whole = geodesic_angle(a.rotation, b.rotation).item()
    if whole < 175:  # at half a turn there are two shortest ways
        assert geodesic_angle(a.rotation, mixed).item() == pytest.approx(weight * whole, abs=0.1)
        assert geodesic_angle(mixed, b.rotation).item() == pytest.approx((1 - weight) * whole, abs=0.1)


@pytest.mark.parametrize("angle", [1e-5, 0.3, 2.0, 3.0, 3.1415])
def test_rotation_vectors_invert(angle):
    vector = torch.nn.functional.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), dim=1) * angle
    rotation = rotation_exp(vector)
    back = rotation_exp(rotation_log(rotation))
    torch.testing.assert_close(back, rotation, atol=2e-4 if angle > 3.1 else 2e-6, rtol=0)
    if angle < 3.1:
        torch.testing.assert_close(rotation_log(rotation), vector, atol=1e-4, rtol=1e-4)


def test_blend_ends_exactly_at_its_end_points():
    a, b = _motion(3, seed=1, fps=30.0), replace(_motion(3, seed=2), intensity=torch.zeros(3, 1))
    for weight, end in ((0.0, a), (1.0, b)):
        mixed = blend(a, b, weight)
        assert mixed.fps == 30.0
        assert all(torch.equal(getattr(mixed, name), getattr(end, name)) for name in (*NAMES, "intensity"))
    middle = blend(a, b, 0.5)
    torch.testing.assert_close(middle.scale, (a.scale * b.scale).sqrt())
    torch.testing.assert_close(middle.expression, (a.expression + b.expression) / 2)
    with pytest.raises(ModelError, match="8 expression features, the other 3"):
        blend(a, replace(b, expression=torch.zeros(3, 3)), 0.5)


def test_stretch_keeps_the_ends_and_the_duration():
    motion = _motion(9, fps=25.0)
    slow = stretch(motion, frames=17)
    assert len(slow) == 17 and slow.fps == 25
    _same(slow[::2], motion)
    fast = stretch(motion, fps=50)
    assert len(fast) == 18 and fast.fps == 50
    _same(fast[:17:2], motion)
    _same(stretch(fast, fps=25), motion)
    for wrong in ({}, {"frames": 0}, {"fps": float("nan")}, {"frames": 3, "fps": 25.0}):
        with pytest.raises(ConfigError):
            stretch(motion, **wrong)
    with pytest.raises(ConfigError, match="None frames per second"):
        stretch(_motion(4), fps=10)


def test_crossfade_goes_from_one_clip_to_the_other():
    a, b = _motion(8, seed=1, fps=25.0), _motion(6, seed=2, fps=25.0)
    joined = crossfade(a, b, frames=4)
    assert len(joined) == 10
    _same(joined[:4], a[:4])
    _same(joined[8:], b[4:])
    to_a, to_b = ((joined.expression[4:8] - end).norm(dim=1) for end in (a.expression[4:], b.expression[:4]))
    apart = to_a / (to_a + to_b)
    assert (apart.diff() > 0).all() and 0 < apart[0] < 0.3 and 0.7 < apart[-1] < 1
    assert len(crossfade(a, stretch(b, fps=50), frames=4)) == 10
    _same(crossfade(a, b, frames=0), Motion.concatenate([a, b]))
    with pytest.raises(ConfigError, match="8 and 6 frames"):
        crossfade(a, b, frames=7)


def test_loops_close():
    motion = _motion(6)
    there_and_back = loop(motion)
    assert len(there_and_back) == 10
    _same(there_and_back[6:], motion[torch.tensor([4, 3, 2, 1])])
    assert len(loop(motion[0])) == 1

    ramp = replace(_motion(40), expression=torch.arange(40.0)[:, None].expand(40, 8), translation=torch.zeros(40, 3))
    round_trip = loop(ramp, crossfade=10)
    assert len(round_trip) == 30
    _same(round_trip[10:], ramp[10:30])
    steps = torch.cat([round_trip.expression, round_trip.expression[:1]])[:, 0].diff().abs()
    assert steps.max() < 6, "a cut would jump by 30 or more"
    with pytest.raises(ConfigError, match="40 frames"):
        loop(ramp, crossfade=21)


def test_load_refuses_a_rotation_without_dimensions(tmp_path):
    tensors = {**_tensors(), "rotation": torch.tensor(1.0), "intensity": torch.ones(3, 1)}
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "mmfa-motion", "version": "2"})
    with pytest.raises(MediaError, match="rotation has shape"):
        Motion.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("fps", [0.1, 1000.0])
def test_the_slowest_and_the_fastest_clip_can_be_loaded(tmp_path, fps):
    _motion(fps=fps).save(tmp_path / "m.safetensors")
    assert Motion.load(tmp_path / "m.safetensors").fps == fps
