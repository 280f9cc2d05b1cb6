import pytest
import torch
from safetensors.torch import save_file

from mmfa.errors import MediaError
from mmfa.geometry import euler_to_matrix
from mmfa.motion import COMPOSITIONS, Motion, compose, jacobian

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
        ({"format": "mmfa-motion", "version": "2"}, "version 2"),
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


@pytest.mark.parametrize(("change", "word"), [({"fps": "nan"}, "frames per second"), ({"fps": "-1"}, "frames per second")])
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
