"""The space of expressions as a user of the library sees it, with the shipped weights."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mmfa
from mmfa.errors import ConfigError, ModelError
from mmfa.expressions import NAMES, ExpressionSpace, fingerprint, interpolate_motions, keypoint_measures, measures
from mmfa.motion import Motion
from mmfa.nets.anchors import VERTICES
from mmfa.registry import build
from mmfa.weights import from_pretrained, save_pretrained

SHIPPED = Path(mmfa.__file__).parent / "models" / "lite"


@pytest.fixture(scope="module")
def model():
    return from_pretrained("lite")


@pytest.fixture(scope="module")
def space(model) -> ExpressionSpace:
    return ExpressionSpace.load("lite", model=model)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def single(expression: torch.Tensor, *, intensity: float = 1.0, shift: float = 0.0) -> Motion:
    return Motion(
        rotation=torch.eye(3)[None],
        scale=torch.ones(1, 1),
        translation=torch.full((1, 3), shift),
        expression=expression,
        intensity=torch.full((1, 1), intensity),
    )


# -- sampling -----------------------------------------------------------------------------------------------------------


def test_samples_repeat_by_seed_and_differ_among_themselves(space) -> None:
    first, again, other = space.sample(6, seeded()), space.sample(6, seeded()), space.sample(6, seeded(1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.pdist(first).min() > 0.1


def test_samples_vary_as_much_as_the_data_the_vae_was_whitened_with(space) -> None:
    drawn = space.vae.whiten(space.sample(4000, seeded()))
    wanted = 1 / (1 + space.vae.params.floor)  # about, for the components that carry most of the variance
    ratio = drawn.var(0)[-8:].mean() / wanted
    assert 0.6 < ratio < 1.6


def test_temperature_tames(space) -> None:
    spread = [space.sample(500, seeded(), temperature=t).std(0).mean() for t in (0.3, 1.0, 1.5)]
    assert spread[0] < 0.6 * spread[1] < 0.6 * spread[2]
    for wrong in (0.0, -1.0, 2.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="temperature"):
            space.sample(2, seeded(), temperature=wrong)


def test_a_walk_is_smooth_loops_and_goes_somewhere(space) -> None:
    walk = space.walk(150, fps=25, generator=seeded())
    assert torch.equal(walk, space.walk(150, fps=25, generator=seeded()))
    steps = (torch.cat([walk[1:], walk[:1]]) - walk).norm(dim=1)
    strangers = torch.pdist(space.sample(50, seeded(1))).mean()
    assert steps.max() < 0.25 * strangers
    assert steps[-1] <= steps[:-1].max()  # the seam is a step like any other
    assert torch.pdist(walk[::15]).max() > 0.5 * strangers


def test_every_frame_of_a_walk_is_a_sample_of_the_prior(space, monkeypatch) -> None:
    monkeypatch.setattr(space, "decode", lambda code: code)
    codes = torch.stack([space.walk(40, fps=25, generator=seeded(i)) for i in range(120)])
    assert codes.var((0, 2)).sub(1).abs().max() < 0.12
    monkeypatch.undo()


@pytest.mark.parametrize("frames", [2, 3, 40, 41])
def test_a_walk_is_the_sum_of_its_harmonics(space, monkeypatch, frames) -> None:
    monkeypatch.setattr(space, "decode", lambda code: code)
    fps, seconds = 10.0, 0.3
    walk = space.walk(frames, fps=fps, generator=seeded(), seconds=seconds)
    numbers = torch.arange(frames // 2 + 1, dtype=torch.float64)
    power = torch.exp(-0.5 * (math.pi * seconds * fps * numbers / frames) ** 2) * torch.where(numbers > 0, 2.0, 1.0)
    cosine, sine = (
        torch.randn(2, len(numbers), walk.shape[1], generator=seeded()).double() * (power / power.sum()).sqrt()[:, None]
    )
    phase = 2 * math.pi * torch.outer(torch.arange(frames, dtype=torch.float64), numbers) / frames
    assert torch.allclose(walk.double(), phase.cos() @ cosine + phase.sin() @ sine, atol=1e-5)


def test_a_long_walk_takes_memory_for_its_frames_alone(space) -> None:
    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            self.numbers = max([self.numbers, *(part.numel() for part in tree_leaves(made) if isinstance(part, torch.Tensor))])
            return made

    largest = {}
    for frames in (2500, 10_000):
        with Largest() as mode:
            assert len(space.walk(frames, fps=25, generator=seeded())) == frames
        largest[frames] = mode.numbers
    assert largest[10_000] <= 4 * largest[2500]


def test_a_walk_without_length_is_refused(space) -> None:
    with pytest.raises(ConfigError, match="1 frames"):
        space.walk(1, fps=25, generator=seeded())


# -- codes and interpolation --------------------------------------------------------------------------------------------


def test_encoding_and_decoding_keeps_the_keypoints(space, model) -> None:
    features = space.sample(200, seeded())
    canonical = model.canonical_detector.anchors.expand(200, -1, -1)

    def place(f: torch.Tensor) -> torch.Tensor:
        return model.expression_decoder(f, canonical)

    lost = (place(space.decode(space.encode(features))) - place(features)).norm(dim=-1).mean()
    moved = (place(features) - place(features).mean(0)).norm(dim=-1).mean()
    assert lost < 0.4 * moved


def test_interpolation_meets_its_waypoints_exactly_and_moves_evenly(space) -> None:
    waypoints = space.sample(3, seeded()) + 0.05
    path = space.interpolate(waypoints, 8)
    assert path.shape == (17, 64)
    assert torch.equal(path[::8], waypoints)
    steps = (path[1:] - path[:-1]).norm(dim=1)
    chords = (waypoints[1:] - waypoints[:-1]).norm(dim=1)
    assert steps.max() < 3 * steps.mean()
    assert steps.sum() < 1.5 * chords.sum()
    for wrong in ((waypoints[:1], 4), (waypoints, 0)):
        with pytest.raises(ConfigError, match="2 waypoints"):
            space.interpolate(*wrong)


def test_motions_pass_neutral_by_fading(space) -> None:
    first, last = space.sample(2, seeded())[:, None].unbind(0)
    neutral = single(torch.full((1, 64), 9.0), intensity=0.0)
    pose = single(first, shift=0.2)
    path = interpolate_motions(space, [single(first), neutral, single(last)], steps=4, pose=pose)
    assert len(path) == 9
    assert path.intensity[:, 0].tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0.25, 0.5, 0.75, 1])
    torch.testing.assert_close(path.expression[:4], first.expand(4, -1))
    torch.testing.assert_close(path.expression[4:], last.expand(5, -1))
    assert (path.translation == 0.2).all()


def test_motions_end_exactly_at_their_waypoints(space) -> None:
    features = space.sample(2, seeded())
    waypoints = [single(features[:1]), single(features[1:])]
    path = interpolate_motions(space, waypoints, steps=5, pose=waypoints[0])
    assert torch.equal(path.expression[[0, -1]], features)
    with pytest.raises(ModelError, match="different models"):
        interpolate_motions(space, [waypoints[0], single(torch.zeros(1, 8))], steps=5, pose=waypoints[0])


# -- measures and directions --------------------------------------------------------------------------------------------


def test_measures_see_what_they_are_called_after(model) -> None:
    mesh = model.mean_mesh[None]
    base = measures(mesh).stack()

    def moved(vertices: tuple[int, ...], x: float, y: float) -> list[str]:
        other = mesh.clone()
        other[:, list(vertices), :2] += torch.tensor([x, y])
        change = (measures(other).stack() - base)[0]
        return [f"{'+' if c > 0 else '-'}{name}" for name, c in zip(NAMES, change.tolist(), strict=True) if abs(c) > 1e-3]

    assert moved((14,), 0, 0.05) == ["+jaw_open"]
    assert moved((61, 291), 0, -0.05) == ["+smile"]
    assert moved((159,), 0, 0.05) == ["+blink_left"] and mesh[0, 159, 0] < 0
    assert moved((386,), 0, 0.05) == ["+blink_right"] and mesh[0, 386, 0] > 0
    assert moved((70, 300), 0, -0.05) == ["+brow_raise"]
    assert moved((468, 473), 0.05, 0) == ["+gaze_x"]
    assert moved((468, 473), 0, 0.05) == ["+gaze_y"]


def test_keypoints_give_the_measures_of_the_mesh_they_sit_on(model) -> None:
    mesh = model.mean_mesh[None] * torch.tensor([1.0, 1.1, 1.0])
    hair = torch.zeros(1, 3, 3)
    found = keypoint_measures(torch.cat([mesh[:, list(VERTICES)], hair], 1)).stack()
    torch.testing.assert_close(found, measures(mesh).stack())
    torch.testing.assert_close(measures(3 * mesh).stack(), measures(mesh).stack())


def test_shipped_directions_move_their_own_measure_three_times_as_much_as_any_other(space, model) -> None:
    features = space.sample(600, seeded(), temperature=0.7)
    canonical = model.canonical_detector.anchors.expand(600, -1, -1)

    def measured(f: torch.Tensor) -> torch.Tensor:
        return keypoint_measures(canonical + model.expression_decoder(f, canonical)).stack()

    base = measured(features)
    for sign in (1, -1):
        moved = [measured(space.set(features, {name: sign})) - base for name in NAMES]
        effect = torch.stack([change.mean(0) / base.std(0) for change in moved])
        own = sign * effect.diag()
        rest = (effect - torch.diag(effect.diag())).abs().max(1).values
        walked = slice(None) if sign > 0 else [1, 4, 5, 6]  # jaw and lids that are closed don't close
        assert (own[walked] > 3 * rest[walked]).all(), effect


def test_setting_adds_up_and_nothing_changes_nothing(space) -> None:
    feature = space.sample(2, seeded())
    assert torch.equal(space.set(feature, {}), feature)
    both = space.set(feature, {"smile": 0.5, "gaze_x": -1})
    torch.testing.assert_close(both, space.set(space.set(feature, {"gaze_x": -1}), {"smile": 0.5}))
    for name, value in (("smirk", 1.0), ("smile", 1e9), ("smile", float("nan"))):
        with pytest.raises(ConfigError, match=name):
            space.set(feature, {name: value})


def test_a_way_back_may_differ_from_the_way_there(space) -> None:
    there, back = torch.randn(2, len(NAMES), 64, generator=seeded())
    one = ExpressionSpace(space.vae, torch.stack([there, back]), owner="")
    smile = NAMES.index("smile")
    torch.testing.assert_close(one.offset({"smile": 0.5})[0], 0.5 * there[smile])
    torch.testing.assert_close(one.offset({"smile": -0.5})[0], -0.5 * back[smile])
    same = ExpressionSpace(space.vae, there, owner="")
    torch.testing.assert_close(same.offset({"smile": -1.0}), -same.offset({"smile": 1.0}))


# -- files --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path) -> Path:
    """The shipped model in a folder of its own."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "lite"))


def test_saving_and_loading_changes_nothing(space, model, copy) -> None:
    (copy / "vae.json").unlink()
    (copy / "vae.safetensors").unlink()
    space.save(copy)
    again = ExpressionSpace.load(copy, model=model)
    assert torch.equal(again.sample(3, seeded()), space.sample(3, seeded()))
    assert torch.equal(again.directions, space.directions)


def test_other_weights_of_the_model_are_noticed(copy, model) -> None:
    other: Any = from_pretrained(copy)
    other.expression_encoder.head[0].weight.data[0, 0] += 1
    assert fingerprint(other) != fingerprint(model)
    with pytest.raises(ModelError, match="belongs to other weights of the model"):
        ExpressionSpace.load(copy, model=other)


def test_a_model_without_a_vae_is_told_so(tmp_path) -> None:
    save_pretrained(build("tiny"), tmp_path / "tiny")
    with pytest.raises(ModelError, match="has no expression VAE"):
        ExpressionSpace.load(tmp_path / "tiny")


def test_damaged_files_are_named(copy, model) -> None:
    good = json.loads((copy / "vae.json").read_text())
    for change, reason in (
        ({"version": 99}, "version 1"),
        ({"directions": ["smirk"]}, "named directions"),
        ({"params": {"features": "many"}}, "damaged"),
    ):
        (copy / "vae.json").write_text(json.dumps({**good, **change}))
        with pytest.raises(ModelError, match=reason):
            ExpressionSpace.load(copy, model=model)
    (copy / "vae.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="nested"):
        ExpressionSpace.load(copy, model=model)
    (copy / "vae.json").write_text("[")
    with pytest.raises(ModelError, match="damaged"):
        ExpressionSpace.load(copy, model=model)
    (copy / "vae.json").write_text(json.dumps(good))
    (copy / "vae.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="damaged"):
        ExpressionSpace.load(copy, model=model)


@pytest.mark.parametrize("change", ["nan", "directions", "missing", "giant"])
def test_a_vae_that_cannot_be_used_is_refused(copy, model, change: str) -> None:
    path = copy / "vae.safetensors"
    tensors = load_file(str(path))
    if change == "giant":
        config = json.loads((copy / "vae.json").read_text())
        config["params"]["features"] = 1 << 24
        (copy / "vae.json").write_text(json.dumps(config))
    elif change == "missing":
        path.unlink()
    else:
        if change == "nan":
            tensors["decoder.0.weight"][0, 0] = float("nan")
        else:
            tensors["directions"] = tensors["directions"][..., :3].contiguous()
        save_file(tensors, str(path))
    said = {
        "nan": "tensor decoder.0.weight holds values that are not numbers",
        "directions": "tensor directions has the shape",
        "missing": r"vae\.safetensors is missing",
        "giant": "a larger network than its weights can fill",
    }
    with pytest.raises(ModelError, match=said[change]):
        ExpressionSpace.load(copy, model=model)
