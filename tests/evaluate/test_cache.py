"""Measures are taken once: by content, networks and code, whatever the report then looks like."""

from pathlib import Path

import pytest
import torch

from mmfa.errors import ModelError
from mmfa.evaluate import cache as cache_module
from mmfa.evaluate import measure
from mmfa.evaluate.cache import Cache, key_of, measuring_state
from mmfa.evaluate.run import Outcome, evaluate
from mmfa.evaluate.subjects import CopySource, Model
from mmfa.evaluate.validation import talking
from mmfa.weights import build, save_pretrained


@pytest.fixture(scope="module")
def data(clip_writer, tmp_path_factory) -> Path:
    """Two clips of three frames of the packaged video."""
    root = tmp_path_factory.mktemp("data")
    frames = [picture.frame() for picture in talking(72)[::12]]
    clip_writer(root / "a.mp4", frames[:3], fps=2, sound=False)
    clip_writer(root / "b.mp4", frames[3:], fps=2, sound=False)
    return root


def run(data: Path, output: Path, **options: object) -> Outcome:
    return evaluate(data, output, subject=options.pop("subject", CopySource()), split="train", stride=1, quiet=True, **options)


def test_a_second_run_calls_no_network(data: Path, tmp_path: Path, monkeypatch) -> None:
    first = run(data, tmp_path / "one")
    assert first.measured == 4 and (tmp_path / ".cache").is_dir()  # two driving, two generated clips

    def called(*_: object) -> None:
        raise AssertionError("a network was called")

    monkeypatch.setattr(measure, "_faces", called)
    monkeypatch.setattr(measure, "_appearance", called)
    monkeypatch.setattr(CopySource, "frames", called)
    second = run(data, tmp_path / "two", rank="psnr")
    assert second.measured == 0
    assert (tmp_path / "one" / "report.json").read_bytes() == (tmp_path / "two" / "report.json").read_bytes()
    with pytest.raises(AssertionError, match="a network was called"):
        run(data, tmp_path / "three", cache=tmp_path / "empty")


def test_the_second_identity_network_is_asked_for_by_name(data: Path, tmp_path: Path, monkeypatch) -> None:
    """A stand-in for it, whose embedding is the mean colour: its weights are not part of the package."""

    class MeanColour(torch.nn.Module):
        def embed(self, images: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    monkeypatch.setattr("mmfa.evaluate.run.missing_faceres", lambda: "faceres.safetensors is not there;")
    with pytest.raises(ModelError, match="second identity network can't be used: faceres.safetensors is not there"):
        run(data, tmp_path / "refused", second_identity=True)
    assert not (tmp_path / "refused").exists()
    plain = run(data, tmp_path / "plain").report
    assert plain.figure("csim_faceres") is None and "--second-identity" in plain.unavailable["csim_faceres"]
    for module in ("run", "extractors", "definitions"):
        monkeypatch.setattr(f"mmfa.evaluate.{module}.missing_faceres", lambda: None)
    monkeypatch.setattr("mmfa.priors.face_features.FaceFeatures", MeanColour)
    measure._faces.cache_clear()
    outcome = run(data, tmp_path / "out", second_identity=True)
    measure._faces.cache_clear()
    found = outcome.report.figure("csim_faceres")
    assert outcome.measured == 4 and found and found.frames == 4 and 0.9 < found.value <= 1
    assert "csim_faceres" not in outcome.report.unavailable


def test_driving_clips_are_shared_and_damage_is_measured_again(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "copy")
    model = tmp_path / "model"
    torch.manual_seed(0)
    save_pretrained(build("tiny"), model)
    first = run(data, tmp_path / "tiny", subject=Model(str(model)))
    assert first.measured == 2
    assert "64 px frames were resized" in first.report.remarks[1] and first.report.sha256
    torch.manual_seed(1)
    save_pretrained(build("tiny"), model)  # another training of the same model in the same place
    second = run(data, tmp_path / "tiny", subject=Model(str(model)))
    assert second.measured == 2 and second.report.sha256 != first.report.sha256
    for path in (tmp_path / ".cache").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert run(data, tmp_path / "copy").measured == 4


def test_the_key_follows_content_networks_and_code(monkeypatch) -> None:
    before = key_of("driving", "abc", 1, *measuring_state())
    assert before == key_of("driving", "abc", 1, *measuring_state()) != key_of("driving", "abd", 1, *measuring_state())
    monkeypatch.setattr(cache_module, "extractor_versions", lambda: {"dlib": "another"})
    assert key_of("driving", "abc", 1, *measuring_state()) != before
    monkeypatch.undo()
    monkeypatch.setattr(cache_module, "_code", lambda names: "changed")
    assert key_of("driving", "abc", 1, *measuring_state()) != before


def test_tensors_come_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert not cache.has("k")
    kept = {"a": torch.tensor([float("nan"), 1.0]), "b": torch.arange(6).reshape(2, 3).T}
    cache.save("k", kept)
    assert cache.has("k")
    for name, tensor in cache.load("k").items():
        assert torch.equal(tensor.nan_to_num(-1), kept[name].nan_to_num(-1))
