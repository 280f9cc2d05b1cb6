"""The benchmark that stands beside training: a short table of the evaluation's own figures."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmfa.evaluate.run import evaluate
from mmfa.evaluate.subjects import CopySource
from mmfa.evaluate.validation import portrait, talking
from mmfa.registry import build
from mmfa.weights import save_pretrained


def test_its_columns_are_the_figures_of_the_evaluation(clip_writer, tmp_path: Path, monkeypatch, capsys) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "quality.py"
    spec = importlib.util.spec_from_file_location("quality_benchmark", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    data, model, out = tmp_path / "data", tmp_path / "model", tmp_path / "out.json"
    data.mkdir()
    pictures = {"man": talking(72)[::18], "woman": [portrait()] * 3, "short": [portrait()]}
    for name, frames in pictures.items():
        shifted = [picture.frame(dx=2 * number) for number, picture in enumerate(frames)]
        clip_writer(data / f"{name}.mp4", shifted, fps=2, sound=False)
    listed = [{"person": name, "split": "val", "file": f"{name}.mp4"} for name in pictures]
    (data / "index.json").write_text(json.dumps({"clips": listed}))
    torch.manual_seed(1)
    save_pretrained(build("tiny"), model)
    common = ["quality.py", str(data), "--model", str(model), "--stride", "1", "--cache", str(tmp_path / "cache")]
    monkeypatch.setattr("sys.argv", [*common, "--cross", "--json", str(out), "--sheet", str(tmp_path / "sheet.png")])
    module.main()
    shown = capsys.readouterr().out
    assert "2 of 3 clips have more than 1 frames" in shown and "| copy the source | " in shown
    found = json.loads(out.read_text())
    assert list(found["same"]) == ["copy the source", "untrained", str(model)] and list(found["cross"]) == [str(model)]
    (data / "index.json").write_text(json.dumps({"clips": listed[:2]}))
    report = evaluate(data, tmp_path / "report", subject=CopySource(), stride=1, cache=tmp_path / "cache", quiet=True).report
    row = found["same"]["copy the source"]
    for column, metric in module.COLUMNS.items():
        figure = report.figure(metric)
        assert figure and row[column] == pytest.approx(figure.value, nan_ok=True), column
    assert (row["lost"], row["frames"], row["landmark_to_copy"]) == (0, 5, 1)
    assert found["same"]["untrained"]["psnr"] != found["same"][str(model)]["psnr"]
    assert set(module.ACROSS) == found["cross"][str(model)].keys() and found["cross"][str(model)]["frames"] == 7
    assert Image.open(tmp_path / "sheet.png").height > 2 * 192
