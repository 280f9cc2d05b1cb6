"""The cache of decoded clips: by one process at a time, not beyond its limit or the disk, and read as little as is needed."""

import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmfa.cli.main import main
from mmfa.dataset.index import Entry
from mmfa.errors import ConfigError, MediaError
from mmfa.media.video import VideoWriter
from mmfa.priors.pose import head_pose
from mmfa.train import cache as caching
from mmfa.train import trainer as training
from mmfa.train.cache import MEAN_MESH, prepare
from mmfa.train.config import TrainConfig
from mmfa.train.data import Augmentation, ClipDataset, StepBatches
from mmfa.train.trainer import Trainer


@pytest.fixture
def copies(clips: Path, cache: Path, tmp_path: Path) -> Path:
    """A cache of this test's own."""
    prepare(clips, cache, fps=8, quiet=True)
    return Path(shutil.copytree(cache, tmp_path / "copies"))


# -- making it ----------------------------------------------------------------------------------------------------------


def test_of_processes_that_want_one_cache_one_decodes_and_the_others_wait(clips, tmp_path, monkeypatch, capsys) -> None:
    decoded: Counter[str] = Counter()
    work = caching._cache

    def slow(job):
        decoded[job[0].name] += 1
        time.sleep(0.5)
        return work(job)

    monkeypatch.setattr(caching, "_cache", slow)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(prepare(clips, tmp_path / "cache", fps=8)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2, 2, 2] and set(decoded.values()) == {1} and len(decoded) == 2
    assert "another process fills" in capsys.readouterr().out


def test_data_are_ready_before_the_processes_meet(config, monkeypatch) -> None:
    """A collective in which they wait for the one that decodes ends with NCCL's time-out."""
    order = []

    def noted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            order.append(name)
            return original(*arguments, **options)

        return run

    for name in ("prepare", "_accelerator"):
        original = getattr(training, name)
        monkeypatch.setattr(training, name, noted(name, original))
    Trainer(config, quiet=True)
    assert order == ["prepare", "_accelerator"]


def test_the_size_is_told_before_and_is_right(clips, tmp_path, capsys) -> None:
    prepare(clips, tmp_path / "cache", fps=8)
    told = capsys.readouterr().out.split("about ")[1].split(" GB")[0]
    made = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.safetensors"))
    assert float(told) == pytest.approx(made / 1e9, rel=0.05)
    prepare(clips, tmp_path / "cache", fps=8)
    assert "to decode" not in capsys.readouterr().out


def test_a_cache_beyond_its_limit_is_refused_and_nothing_is_left(clips, config, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    words = [f"data={clips}", f"output={run}", "fps=8", "cache_limit=0.0001"]
    assert main(["train", "tiny", "--quiet", *(word for pair in words for word in ("--set", pair))]) == 2
    error = capsys.readouterr().err
    assert "about 0.00107 GB" in error and "raise cache_limit, or lower fps" in error and len(error.splitlines()) == 1
    assert not run.exists()
    half = tmp_path / "half"
    prepare(clips, half, fps=8, quiet=True)
    next(half.glob("*.safetensors")).unlink()
    with pytest.raises(ConfigError, match=r"about 0\.00107 GB"):
        prepare(clips, half, fps=8, limit=0.001, quiet=True)
    assert len(list(half.glob("*.safetensors"))) == 1, "what was there stays"


def test_a_disk_without_room_is_noticed_before_the_work(clips, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000_000))
    with pytest.raises(ConfigError, match=r"0\.001 GB are free; set cache to a folder on a larger disk"):
        prepare(clips, tmp_path / "cache", fps=8, quiet=True)
    assert not (tmp_path / "cache").exists()


def test_a_cache_of_another_frame_rate_is_noticed_and_kept(clips, tmp_path, capsys) -> None:
    """Which frames lie in it counts, not the number: at 25 frames a second clips of 8 have the frames they have at 8."""
    cache = tmp_path / "cache"
    prepare(clips, cache, fps=8, quiet=True)
    before = {path.name: path.read_bytes() for path in cache.glob("*.safetensors")}
    for fps in (8, 25, 6.0):
        prepare(clips, cache, fps=fps, quiet=True)
        assert "frames a second" not in "".join(capsys.readouterr())
    prepare(clips, cache, fps=4, quiet=True)
    said = capsys.readouterr().out
    assert said.startswith(f"2 of 2 clips in {cache} were decoded at 8 frames a second, not at fps: 4;")
    assert len(said.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in cache.glob("*.safetensors")} == before
    for path in cache.glob("*.safetensors"):  # as those of 0.6.0, which don't say
        save_file(load_file(path), path)
    assert len(prepare(clips, cache, fps=4, quiet=True)) == 2 and not "".join(capsys.readouterr())


def test_what_shows_no_face_is_tracked_once_and_named_at_every_start(clips, tmp_path, monkeypatch, capsys) -> None:
    data = Path(shutil.copytree(clips, tmp_path / "data"))
    wall = data / "wall.mp4"
    with VideoWriter(wall, fps=8, size=(96, 96)) as writer:
        for _ in range(8):
            writer.write(torch.full((96, 96, 3), 128, dtype=torch.uint8).numpy())
    read: list[str] = []
    original = caching._read

    def noted(entry: Entry, *, fps: float) -> tuple[list[Tensor], list[Tensor], float]:
        read.append(entry.name)
        return original(entry, fps=fps)

    monkeypatch.setattr(caching, "_read", noted)
    for _ in range(2):
        assert len(prepare(data, tmp_path / "cache", fps=8, quiet=True)) == 2
        assert "wall.mp4 shows a face in fewer than 4" in capsys.readouterr().out
    assert read.count("wall") == 1
    prepare(data, tmp_path / "cache", fps=4, quiet=True)
    assert read.count("wall") == 2, "with other frames it may be of use"
    later = time.time() + 100
    os.utime(wall, (later, later))
    prepare(data, tmp_path / "cache", fps=4, quiet=True)
    assert read.count("wall") == 3, "another file of the same name"


# -- reading it ---------------------------------------------------------------------------------------------------------


def test_landmarks_on_disk_give_the_pairs_of_landmarks_in_memory(copies, clips) -> None:
    files = prepare(clips, copies, fps=8, quiet=True)
    inside, outside = (ClipDataset(files, size=64, held=held) for held in (1000, 0))
    assert all(clip.held is None for clip in outside.clips) and all(clip.held is not None for clip in inside.clips)
    torch.testing.assert_close(inside.mean_mesh(), outside.mean_mesh())
    for candidates in (1, 4):
        drawn = [
            data.draw(40, torch.Generator().manual_seed(0), candidates=candidates, augmentation=Augmentation(flip=0.5))
            for data in (inside, outside)
        ]
        assert [(a.source, a.driving, a.clip.path) for a in drawn[0]] == [(b.source, b.driving, b.clip.path) for b in drawn[1]]
        first, second = inside.batch(drawn[0][:6]), outside.batch(drawn[1][:6])
        torch.testing.assert_close(first.driving.mesh, second.driving.mesh, atol=1e-5, rtol=0)
        assert torch.equal(first.landmarks, second.landmarks) and torch.equal(first.source.image, second.source.image)


def test_a_large_data_set_is_not_read_to_begin_with(copies, clips, monkeypatch) -> None:
    """Of each clip the length and the mean; of a pair the rows of its candidates."""
    files, rows = prepare(clips, copies, fps=8, quiet=True), []

    def spy(points):
        rows.append(len(points))
        return head_pose(points)

    monkeypatch.setattr("mmfa.train.data.head_pose", spy)
    data = ClipDataset(files, size=64, held=0)
    data.mean_mesh()
    assert rows == []
    data.draw(3, torch.Generator().manual_seed(0), candidates=4)
    assert rows == [5, 5, 5]


def test_caches_from_before_without_a_mean_still_load(copies, clips) -> None:
    files = prepare(clips, copies, fps=8, quiet=True)
    wanted = ClipDataset(files, size=64, held=0).mean_mesh()
    for cached in files:
        tensors = load_file(cached.path)
        assert tensors.pop(MEAN_MESH).shape == (478, 3)
        save_file(tensors, cached.path)
    torch.testing.assert_close(ClipDataset(files, size=64, held=0).mean_mesh(), wanted)


def test_landmarks_that_break_during_training_are_replaced_counted_and_named(copies, clips, capsys) -> None:
    files = prepare(clips, copies, fps=8, quiet=True)
    data = ClipDataset(files, size=64, held=0)
    batches = StepBatches(data, seed=0, steps=9, batch=8, candidates=4, augmentation=Augmentation())
    broken = files[0].path
    broken.write_bytes(broken.read_bytes()[:1000])
    assert len(batches[0]) == 8 and batches.skipped[str(broken)] >= 1
    assert str(broken) in capsys.readouterr().out
    with pytest.raises(MediaError, match="cannot be read"):
        data.people["one"][0].points([0])


def test_a_run_on_landmarks_on_disk_learns_the_same(config: TrainConfig, tmp_path, monkeypatch) -> None:
    """Stage 0 included."""
    records = []
    for held in (1000, 0):
        monkeypatch.setattr(ClipDataset.__init__, "__kwdefaults__", {"resident": None, "held": held})
        trainer = Trainer(replace(config, output=str(tmp_path / str(held)), candidates=3), quiet=True)
        assert (trainer.data.clips[0].held is None) == (held == 0)
        trainer.run(until=2)
        records.append(json.loads((tmp_path / str(held) / "log.jsonl").read_text().splitlines()[-1]))
    for name in ("keypoint", "pixel", "identity"):
        assert records[0][name] == pytest.approx(records[1][name], rel=1e-2)
