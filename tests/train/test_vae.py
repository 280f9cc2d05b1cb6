"""Training of the expression VAE: losses, posterior collapse and its cure, named directions, a run from files."""

from dataclasses import replace

import pytest
import torch

from mmfa.errors import ConfigError
from mmfa.expressions import NAMES, ExpressionSpace, keypoint_measures
from mmfa.models.lite.model import LiteMMFA
from mmfa.models.paper.model import PaperMMFA
from mmfa.nets.canonical import MeshCanonicalDetector
from mmfa.registry import build
from mmfa.train.calibration import calibrate, keypoint_effects, mixed, people_of, picture_effects
from mmfa.train.config import TrainConfig
from mmfa.train.directions import fit_directions, weighted_quantile, within_person
from mmfa.train.shipped import config_path
from mmfa.train.vae import (
    VAEConfig,
    adversarial_loss,
    discriminator_loss,
    expression_data,
    fit,
    measure,
    reconstruction_loss,
    tracked_clips,
    train_vae,
)
from mmfa.weights import from_pretrained, save_pretrained

SYNTHETIC = VAEConfig(data="data", output="output", cache="", code=6, steps=400, batch=64)


def shipped() -> LiteMMFA:
    model = from_pretrained("lite")
    assert isinstance(model, LiteMMFA)
    return model


def anchors(model: LiteMMFA) -> torch.Tensor:
    assert isinstance(model.canonical_detector, MeshCanonicalDetector)
    return model.canonical_detector.anchors


def synthetic() -> tuple[torch.Tensor, torch.Tensor]:
    """4000 features of 12 numbers that bend with 4 hidden causes, and a little noise."""
    generator = torch.Generator().manual_seed(0)
    causes = torch.randn(4000, 4, generator=generator)
    features = torch.tanh(causes @ torch.randn(4, 12, generator=generator)) + 0.1 * torch.randn(4000, 12, generator=generator)
    return features, torch.full((4000,), 1 / 4000)


def test_kl_collapses_the_plain_vae_and_the_adversary_cures_it() -> None:
    """Section 3.5: the decoded variance falls without the adversarial term and stays with it; nothing else differs."""
    features, weights = synthetic()
    found = [
        measure(fit(features, weights, replace(SYNTHETIC, loss_kl=2.0, loss_adversarial=adv), quiet=True), features, weights)
        for adv in (0.0, 5.0)
    ]
    plain, cured = found
    assert plain.active_units == 0 and plain.sample_variance < 0.05 and plain.reconstruction_error > 0.9
    assert cured.active_units >= 3 and cured.sample_variance > 0.3 and cured.reconstruction_error < 0.85
    assert cured.sample_distance < 0.6 * plain.sample_distance


def test_the_default_weights_reconstruct_and_sample_well_and_a_seed_gives_one_vae() -> None:
    features, weights = synthetic()
    first, second = (fit(features, weights, SYNTHETIC, quiet=True) for _ in range(2))
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    found = measure(first, features, weights)
    assert found.reconstruction_error < 0.35 and 0.6 < found.sample_variance < 1.5 and found.active_units >= 4
    assert found.real_distance < found.sample_distance < 2


def test_losses_at_their_optimum_and_directions() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert reconstruction_loss(x, x) == 0
    assert reconstruction_loss(x, x + 1) == pytest.approx(1.5)
    sure, fooled = torch.full((4, 1), 2.0), torch.full((4, 1), -2.0)
    assert discriminator_loss(sure, -sure, -sure) == 0
    assert discriminator_loss(fooled, sure, sure) == pytest.approx(6)
    assert adversarial_loss(sure) < adversarial_loss(fooled)


def test_a_broken_loss_is_named() -> None:
    features, weights = synthetic()
    with pytest.raises(FloatingPointError, match="learning_rate"):
        fit(features, weights, replace(SYNTHETIC, learning_rate=1e20, steps=20), quiet=True)


# -- named directions ---------------------------------------------------------------------------------------------------


def test_quantile_and_mean_by_person() -> None:
    values = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    assert weighted_quantile(values, torch.full((4,), 0.25), 0.5).item() == 2
    assert weighted_quantile(values, torch.tensor([0.1, 0.1, 0.1, 0.7]), 0.5).item() == 4
    person = torch.tensor([0, 0, 1, 1])
    assert within_person(values, person)[:, 0].tolist() == [-0.5, 0.5, -0.5, 0.5]


def test_directions_move_their_own_measure(animator) -> None:
    """Learned anew, from samples of the shipped VAE as data: each moves its own measure three times as much as any other."""
    model = shipped()
    generator = torch.Generator().manual_seed(0)
    features = ExpressionSpace.load("lite", model=model).sample(1200, generator)
    canonical = anchors(model).expand(1200, -1, -1)
    person = torch.arange(1200) % 4
    weights = torch.full((1200,), 1 / 1200)
    directions = fit_directions(model, features, canonical, person, weights, steps=80)

    def measured(f: torch.Tensor) -> torch.Tensor:
        return keypoint_measures(canonical[: len(f)] + model.expression_decoder(f, canonical[: len(f)])).stack()

    spread = measured(features).std(0)
    base = features[:300]
    effect = torch.stack([(measured(base + step) - measured(base)).mean(0) / spread for step in directions])
    own = effect.diag()
    assert (own > 0.8).all()
    assert (own > 3 * (effect - torch.diag(own)).abs().max(1).values).all(), effect


def test_directions_of_a_face_that_never_moves_are_refused() -> None:
    model = shipped()
    still, canonical = torch.zeros(8, 64), anchors(model).expand(8, -1, -1)
    with pytest.raises(ConfigError, match="never changes"):
        fit_directions(model, still, canonical, torch.arange(8) % 2, torch.full((8,), 1 / 8))


def test_mixing_takes_the_others_out_of_every_table() -> None:
    generator = torch.Generator().manual_seed(0)
    count = len(NAMES)
    steps = torch.randn(count, 64, generator=generator)
    response = torch.randn(64, count, generator=generator) / 8  # measures that follow f linearly
    effect = torch.diag(torch.linspace(0.3, 2, count)) + 0.1 * torch.randn(count, count, generator=generator)
    steps = steps + (effect - steps @ response) @ torch.linalg.pinv(response)  # each with this effect on them
    after = mixed(steps, effect) @ response
    torch.testing.assert_close(after, torch.diag(after.diag()), atol=1e-4, rtol=0)
    assert (after.diag() / effect.diag() - 1).abs().max() < 0.5
    torch.testing.assert_close(mixed(steps, torch.diag(effect.diag())), steps)
    # Two tables that want different things: less is wrong in both together than before.
    other = effect + 0.1 * torch.randn(count, count, generator=generator)
    mix = mixed(torch.eye(count), effect, other)

    def wrong(tables: list[torch.Tensor]) -> float:
        return sum(float((table / table.diag()[:, None] - torch.eye(count)).square().sum()) for table in tables)

    assert wrong([mix @ effect, mix @ other]) < 0.5 * wrong([effect, other])


def test_what_a_direction_moves_both_ways_alike_is_taken_out_of_both_ways(monkeypatch) -> None:
    """A brow that rises whether the gaze goes up or down: one vector for both ways could take out neither."""
    count, brow, gaze = len(NAMES), NAMES.index("brow_raise"), NAMES.index("gaze_y")

    def effects(model, steps, clips, **options) -> torch.Tensor:
        seen = steps.clone()
        seen[:, brow] += 0.4 * steps[:, gaze].abs()
        return seen[None]

    for name in ("picture_effects", "keypoint_effects"):
        monkeypatch.setattr(f"mmfa.train.calibration.{name}", effects)
    there, back = calibrate(None, torch.eye(count), None, count=1, quiet=True)  # type: ignore[arg-type]  # neither is asked
    for steps in (there, -back):
        seen = effects(None, steps, None)[0]
        torch.testing.assert_close(seen, torch.diag(seen.diag()), atol=1e-5, rtol=0)
    assert float(there[gaze, brow]) < -0.3 and float(back[gaze, brow]) > 0.3


def test_effects_in_pictures_and_on_keypoints(config: TrainConfig) -> None:
    """Two renderings of the shipped model: a smile is seen as a smile, and half a step is less of it."""
    model = shipped()
    run = VAEConfig(data=config.data, output="output", cache=config.cache, fps=8)
    clips = tracked_clips(model, run, split="train", quiet=True)
    smile = ExpressionSpace.load("lite", model=model).offset({"smile": 1.0})
    steps = torch.cat([smile, smile / 2, torch.zeros_like(smile)])
    own = NAMES.index("smile")
    for effects in (
        picture_effects(model, steps, clips, count=2, quiet=True),
        keypoint_effects(model, steps, clips, count=200),
    ):
        whole, half, none = effects.mean(0)
        assert whole.abs().argmax() == own and whole[own] > 1.3 * half[own] > 0.1
        assert none.abs().max() < 1e-4
    person, weight = people_of(clips)
    assert person.tolist() == [0] * 16 + [1] * 16 and float(weight.sum()) == pytest.approx(1)


def test_a_model_whose_pictures_show_no_face_is_refused(config: TrainConfig) -> None:
    model = build("tiny").eval()
    assert isinstance(model, LiteMMFA)
    run = VAEConfig(data=config.data, output="output", cache=config.cache, fps=8)
    clips = tracked_clips(model, run, split="train", quiet=True)
    with pytest.raises(ConfigError, match="pictures: 0"):
        calibrate(model, torch.zeros(len(NAMES), 64), clips, count=2, quiet=True)


# -- config and files ---------------------------------------------------------------------------------------------------


def test_the_shipped_config_loads() -> None:
    config = VAEConfig.load(config_path("lite", vae=True))
    assert config == replace(VAEConfig(data=config.data, output=config.output, cache=config.cache))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("loss_k: 1.0", "did you mean 'loss_kl'"),
        ("steps: 0", "steps must be more than 0"),
        ("loss_kl: -1", "loss_kl must be 0 or more"),
        ("code: many", "code must be of type int"),
        ("pictures: -1", "pictures must be 0 or more"),
    ],
)
def test_config_errors_name_the_key(tmp_path, line, reason) -> None:
    path = tmp_path / "vae.yaml"
    path.write_text(f"data: a\noutput: b\ncache: c\n{line}\n")
    with pytest.raises(ConfigError, match=reason):
        VAEConfig.load(path)


def test_a_run_writes_what_loads_and_knows_its_model(config: TrainConfig, tmp_path) -> None:
    lite, folder = shipped(), str(tmp_path / "model")
    save_pretrained(lite, folder)
    run = VAEConfig(
        data=config.data, output=folder, cache=config.cache, model=folder, fps=8, code=4, steps=15, batch=16, pictures=3
    )
    found = train_vae(run, quiet=True)
    space = ExpressionSpace.load(folder)
    assert space.directions.shape == (2, len(NAMES), 64) and space.vae.params.code == 4
    data = expression_data(lite, run, split="train", quiet=True)
    assert len(data.feature) == 32 and data.weight.sum() == pytest.approx(1)
    assert data.weight[data.person == 0].sum() == pytest.approx(0.5)
    again = measure(space.vae, data.feature, data.weight)
    assert again.active_units == found.active_units
    for name in ("kl", "reconstruction_error", "sample_variance"):
        assert getattr(again, name) == pytest.approx(getattr(found, name), rel=0.01), "what was measured is what was written"


def test_pixel_fed_models_are_refused(config: TrainConfig) -> None:
    run = VAEConfig(data=config.data, output="output", cache=config.cache)
    model = build("tiny-paper")
    assert isinstance(model, PaperMMFA)
    with pytest.raises(ConfigError, match="pixels"):
        expression_data(model, run, split="train")
