"""Drawn heads: what their pictures show is what their truth says, and the measures on them answer known errors."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmfa.errors import ConfigError
from mmfa.evaluate.heads import Expression
from mmfa.evaluate.observe import Observed, Observer
from mmfa.evaluate.raster import rasterise
from mmfa.evaluate.recovery import (
    DEFINITIONS,
    equivariance,
    expression_leak,
    pose_recovery,
    read_out,
    recover,
    reenactment,
)
from mmfa.evaluate.synthetic import (
    EXPRESSIONS,
    RANGES,
    Head,
    State,
    moved,
    random_state,
    render,
    sequence,
    smooth_states,
    sweep,
)
from mmfa.geometry import euler_to_matrix, matrix_to_euler
from mmfa.motion import Motion
from mmfa.portrait import FaceInput, KeypointModel
from mmfa.priors.landmarks import eye_opening, mouth_opening
from mmfa.priors.pose import head_pose
from mmfa.weights import from_pretrained

torch.set_num_threads(1)
DOCS = Path(__file__).parents[2] / "docs" / "synthetic.md"


def head_of(seed: int) -> Head:
    return Head.random(np.random.default_rng(seed))


def lite() -> KeypointModel[Any, Any]:
    model = from_pretrained("lite")
    assert isinstance(model, KeypointModel)
    return model


@pytest.fixture(scope="module")
def observer() -> Observer:
    return Observer(lite())


def seen(observer: Observer, head: Head, states: list[State]) -> torch.Tensor:
    """Landmarks (N,478,3) found in drawings; a drawing without a face is a failure."""
    observed = observer.look(head, states)
    assert len(observed) == len(states)
    return observed.points


# -- the drawings ------------------------------------------------------------------------------------------------------


def test_a_seed_is_a_picture_and_another_seed_another_person() -> None:
    state = State(yaw=10, expression=Expression(jaw=0.5))
    first, again, other = (render(head_of(seed), state, size=64) for seed in (4, 4, 5))
    assert (first.image == again.image).all() and (first.landmarks == again.landmarks).all()
    assert first.image.shape == (64, 64, 3) and first.image.dtype == np.uint8
    assert np.abs(first.image.astype(int) - other.image).mean() > 10
    assert (first.landmarks - other.landmarks).norm(dim=1).mean() > 0.01


def test_true_landmarks_are_the_canonical_ones_composed() -> None:
    state = State(yaw=20, pitch=-8, roll=12, scale=0.45, shift=(0.1, -0.03), expression=Expression(smile=1, gaze_x=0.5))
    drawing = render(head_of(1), state, size=32)
    rotation = euler_to_matrix(*(torch.tensor([angle]) for angle in (-8.0, 20.0, 12.0)))[0]
    expected = 0.45 * drawing.canonical @ rotation.T + torch.tensor([0.1, -0.03, 0.0])
    assert drawing.landmarks.shape == (478, 3)
    torch.testing.assert_close(drawing.rotation, rotation)
    torch.testing.assert_close(drawing.landmarks, expected, atol=1e-6, rtol=0)


def test_a_shift_moves_the_pixels_by_itself() -> None:
    head, step = head_of(2), 8 * 2 / 255
    here, there = render(head, State()), render(head, State(shift=(step, 0.08 - step)))
    face = (here.landmarks[:468, :2] + 1) * 127.5
    (x0, y0), (x1, y1) = face.amin(0).int().tolist(), face.amax(0).int().tolist()
    inner = np.s_[y0 + 30 : y1 - 30, x0 + 30 : x1 - 30]
    moved_inner = np.s_[y0 + 22 : y1 - 38, x0 + 38 : x1 - 22]
    difference = np.abs(here.image[inner].astype(int) - there.image[moved_inner])
    assert difference.mean() < 0.5


@pytest.mark.parametrize("name", RANGES)
def test_one_attribute_moves_alone(name: str) -> None:
    base = random_state(np.random.default_rng(0))
    states = sweep(name, 3, base=base)
    assert flat(states[0])[name] == RANGES[name][0] and flat(states[-1])[name] == RANGES[name][1]
    clip = smooth_states(np.random.default_rng(1), 50, moving=[name], base=base)
    for state in (*states, *clip):
        assert {key: value for key, value in flat(state).items() if key != name} == {
            key: value for key, value in flat(base).items() if key != name
        }
    path = np.array([flat(state)[name] for state in clip])
    low, high = RANGES[name]
    assert np.ptp(path) > 0.1 * (high - low) and np.abs(np.diff(path)).max() < 0.12 * (high - low)
    assert low <= path.min() and path.max() <= high


def flat(state: State) -> dict[str, float]:
    shown = {name: getattr(state, name) for name in ("yaw", "pitch", "roll", "scale")}
    return shown | {"shift_x": state.shift[0], "shift_y": state.shift[1]} | vars(state.expression)


def test_only_what_moves_changes_in_the_truth() -> None:
    head = head_of(3)
    posed = list(sequence(head, sweep("yaw", 3), size=32))
    assert all((drawing.canonical == posed[0].canonical).all() for drawing in posed)
    for name in EXPRESSIONS:
        drawings = list(sequence(head, sweep(name, 2, base=State(yaw=9)), size=32))
        assert (drawings[0].rotation == drawings[1].rotation).all()
        assert drawings[0].scale == drawings[1].scale and (drawings[0].translation == drawings[1].translation).all()
        assert (drawings[0].canonical - drawings[1].canonical).norm(dim=1).max() > 0.03, name


def test_bad_wishes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'nod'.*yaw"):
        moved(State(), {"nod": 1.0})
    with pytest.raises(ConfigError, match="'nod'"):
        sweep("nod", 3)
    with pytest.raises(ConfigError, match="positive scale"):
        render(head_of(0), State(scale=0.0))
    with pytest.raises(ConfigError, match="numbers"):
        render(head_of(0), State(expression=Expression(jaw=float("nan"))))
    with pytest.raises(ConfigError, match="8 x 8"):
        render(head_of(0), State(), size=8)
    with pytest.raises(ConfigError, match="too few"):
        recover(lite(), heads=1)


def test_the_rasteriser_shows_the_nearest_triangle() -> None:
    square = np.array([[2.0, 2, 0.5], [10, 2, 0.5], [10, 10, 0.5], [2, 10, 0.5]])
    near = np.array([[0.0, 0, 0.2], [6, 0, 0.2], [0, 6, 0.2]])
    hits = rasterise(np.concatenate([square, near]), np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6]]), size=12)
    shown = np.full((12, 12), -1)
    shown.reshape(-1)[hits.place] = hits.triangle
    assert (shown[2:10, 2:10] >= 0).all() and (shown[10:] == -1).all() and (shown[:, 10:] == -1).all()
    assert shown[2, 2] == 2 and shown[8, 8] in (0, 1) and shown[3, 8] == 0 and shown[8, 3] == 1
    np.testing.assert_allclose(hits.weights.sum(1), 1, atol=1e-5)
    behind = near + np.array([0, 0, 0.6])
    hits = rasterise(np.concatenate([square, behind]), np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6]]), size=12)
    shown.reshape(-1)[hits.place] = hits.triangle
    assert shown[2, 2] in (0, 1) and shown[0, 0] == 2


# -- what the priors see in them ---------------------------------------------------------------------------------------


def test_the_priors_take_them_for_faces(observer: Observer) -> None:
    errors = []
    for seed in range(10):
        generator = np.random.default_rng([77, seed])
        drawing = render(Head.random(generator), random_state(generator))
        found = observer.find(drawing.image)
        if found is not None:
            assert found.score > 0.9  # below 0.5 nothing would be found
            errors.append(float((found.points - drawing.landmarks)[:, :2].norm(dim=1).mean()) * 127.5)
    assert len(errors) >= 9
    assert np.mean(errors) < 3.5


@pytest.mark.parametrize("seed", [3, 11, 12])
def test_the_measured_yaw_follows_the_true_one(observer: Observer, seed: int) -> None:
    true = np.array([-25.0, 25.0])
    points = seen(observer, head_of(seed), [State(yaw=float(yaw)) for yaw in true])
    measured = matrix_to_euler(head_pose(points).rotation)[1].numpy()
    assert 0.8 < np.polyfit(true, measured, 1)[0] < 1.2


def test_jaw_and_lids_are_seen_to_move(observer: Observer) -> None:
    mouths = mouth_opening(seen(observer, head_of(3), sweep("jaw", 4)))
    assert (mouths.diff() > 0).all() and mouths[-1] - mouths[0] > 0.15
    blinking = [State(expression=Expression(blink_left=v, blink_right=v)) for v in (0, 0.35, 0.7, 1)]
    eyes = eye_opening(seen(observer, head_of(13), blinking))
    assert (eyes.diff() < 0).all() and eyes[-1] < 0.5 * eyes[0]


def test_the_gaze_is_seen_on_its_side(observer: Observer) -> None:
    points = seen(observer, head_of(3), sweep("gaze_x", 3))
    for iris, corner, other in ((468, 33, 133), (473, 362, 263)):
        place = (points[:, iris, 0] - points[:, corner, 0]) / (points[:, other, 0] - points[:, corner, 0])
        assert (place.diff() > 0.03).all()


# -- the measures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def observed(observer: Observer) -> Observed:
    generator = np.random.default_rng(8)
    return observer.look(head_of(8), [random_state(generator) for _ in range(8)])


def perfect(observed: Observed, *, turn: torch.Tensor | None = None) -> Observed:
    """The truth in another gauge: another frontal, another unit, another origin, and `turn` (N,3,3) as an error."""
    gauge = euler_to_matrix(*(torch.tensor([angle]) for angle in (4.0, -3.0, 1.0)))
    rotation = observed.rotation @ (gauge if turn is None else turn @ gauge)
    lever = observed.scale[:, :, None] * observed.rotation
    translation = observed.translation + lever @ torch.tensor([0.05, -0.1, 0.2])
    told: dict[str, Any] = {"rotation": rotation, "scale": 1.3 * observed.scale, "translation": translation}
    return replace(observed, face=replace(observed.face, **told), motion=replace(observed.motion, **told))


def test_pose_errors_ignore_the_gauge_and_nothing_else(observed: Observed) -> None:
    figures = pose_recovery(perfect(observed))
    assert 4 < figures.pop("rotation_raw_deg") < 6
    assert max(figures.values()) < 0.1
    count = len(observed)
    swing = torch.where(torch.arange(count) % 2 == 0, 5.0, -5.0)
    turned = perfect(observed, turn=euler_to_matrix(torch.zeros(count), swing, torch.zeros(count)))
    assert pose_recovery(turned)["rotation_deg"] == pytest.approx(5, abs=0.1)
    wrong = perfect(observed)
    breathing = wrong.face.scale * torch.where(torch.arange(count) % 2 == 0, 1.02, 0.98)[:, None]
    wrong = replace(wrong, face=replace(wrong.face, scale=breathing))
    assert pose_recovery(wrong)["prior_scale_pct"] == pytest.approx(2, abs=0.1)
    shaken = wrong.face.translation + torch.randn(count, 3, generator=torch.Generator().manual_seed(0)) * 0.02
    assert 0.2 < pose_recovery(replace(wrong, face=replace(wrong.face, translation=shaken)))["prior_translation_pct"] < 2


def test_the_read_out_finds_what_is_there_and_only_that() -> None:
    told, untold = [], []
    for number in range(6):
        generator = np.random.default_rng(number)
        states = [random_state(generator) for _ in range(40)]
        values = torch.tensor([[getattr(state.expression, name) for name in EXPRESSIONS] for state in states])
        mixing = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
        told.append(fake(states, values @ mixing))
        untold.append(fake(states, torch.randn(40, 16, generator=torch.Generator().manual_seed(number))))
    found, missed = read_out(told), read_out(untold)
    assert all(found[f"r2_{name}"] > 0.95 and found[f"r2_relative_{name}"] > 0.95 for name in EXPRESSIONS)
    assert all(missed[f"r2_{name}"] < 0.2 for name in EXPRESSIONS)


def fake(states: list[State], features: torch.Tensor) -> Observed:
    count = len(states)
    motion = Motion(
        rotation=torch.eye(3).expand(count, 3, 3),
        scale=torch.ones(count, 1),
        translation=torch.zeros(count, 3),
        expression=features,
    )
    mesh = torch.cat([features, torch.zeros(count, 478 * 3 - features.shape[1])], 1).reshape(count, 478, 3)
    face = FaceInput(torch.zeros(count, 3, 0, 0), mesh, motion.rotation, motion.scale, motion.translation)
    return Observed(states, [], mesh, face, motion, torch.zeros(count, 5, 3))


def test_equivariance_leakage_and_reenactment_are_of_the_size_they_must_be(observer: Observer, observed: Observed) -> None:
    moved_along = equivariance(observer, observed, np.random.default_rng(0), count=2)
    assert all(0 < value < 3 for value in moved_along.values())
    leaks = expression_leak(observer, head_of(8), State(), steps=2)
    assert 0 < leaks["found_scale_leak_pct"] < 15 and 0 < leaks["found_prior_scale_leak_pct"] < 15
    assert 0 < leaks["found_pose_leak_deg"] < 10 and 0 < leaks["found_translation_leak_pct"] < 5
    driven = reenactment(observer, head_of(8), head_of(9), np.random.default_rng(1), count=2)
    assert driven["reenactment_lost"] == 0
    assert driven["reenactment_seen_px"] < 0.5 * driven["copy_px"]
    assert {*moved_along, *leaks, *driven} <= set(DEFINITIONS)


def test_every_definition_is_documented_word_for_word() -> None:
    text = DOCS.read_text()
    for name, line in DEFINITIONS.items():
        assert f"| `{name}` | {line} |" in text, name


def test_the_states_are_what_recovery_draws_from() -> None:
    assert set(EXPRESSIONS) == {one.name for one in fields(Expression)} <= set(RANGES)
