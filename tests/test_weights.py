import json
import os
import subprocess
import sys
import time
from resource import RUSAGE_SELF, getrusage

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmfa.errors import ModelError
from mmfa.models.lite import tiny
from mmfa.models.lite.model import LiteMMFA
from mmfa.models.paper import tiny_paper
from mmfa.models.paper.model import PaperMMFA
from mmfa.registry import build
from mmfa.weights import from_pretrained, save_pretrained


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    save_pretrained(build(tiny()), tmp_path)
    return tmp_path


def _edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("params", [tiny(), tiny_paper()], ids=["lite", "paper"])
@pytest.mark.parametrize("half", [True, False])
def test_round_trip(tmp_path, params, half):
    torch.manual_seed(0)
    model = build(params)
    save_pretrained(model, tmp_path, half=half)
    loaded = from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert loaded.params == params
    assert not loaded.training
    wanted = model.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == wanted[name].dtype
        tolerance = 2e-3 if half else 0.0
        torch.testing.assert_close(tensor, wanted[name], atol=tolerance, rtol=tolerance)


def test_build_by_name():
    assert type(build("tiny")) is LiteMMFA
    with torch.device("meta"):
        assert type(build("paper")) is PaperMMFA


def test_a_config_without_kind_is_a_lite_model(saved):
    config = json.loads((saved / "config.json").read_text())
    assert config.pop("kind") == "lite"
    (saved / "config.json").write_text(json.dumps(config))
    assert type(from_pretrained(saved)) is LiteMMFA


@pytest.mark.parametrize("action", [build, from_pretrained])
def test_unknown_name(action):
    with pytest.raises(ModelError, match="nonsense"):
        action("nonsense")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"format": "other"}, "no mmfa model"),
        ({"kind": "other"}, "unknown kind 'other'"),
        ({"kind": "paper"}, "does not fit"),
        ({"params": {"surprise": 1}}, "surprise"),
        ({"params": None}, "damaged"),
    ],
)
def test_config_that_does_not_fit(saved, changes, message):
    _edit(saved, **changes)
    with pytest.raises(ModelError, match=message):
        from_pretrained(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04nonsense", b"[]"])
def test_damaged_file(saved, name, content):
    (saved / name).write_bytes(content)
    with pytest.raises(ModelError, match=str(saved)):
        from_pretrained(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(saved, name):
    (saved / name).unlink()
    with pytest.raises(ModelError, match=str(saved)):
        from_pretrained(saved)


def test_truncated_weights_and_missing_tensor(saved):
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="damaged"):
        from_pretrained(saved)
    path.write_bytes(whole)
    tensors = load_file(path)
    tensors.pop("affine.head.0.weight")
    save_file(tensors, path)
    with pytest.raises(ModelError, match="does not fit"):
        from_pretrained(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["affine.head.0.weight", "generator.bottom.0.0.weight"])
def test_weights_that_are_not_numbers_are_named(saved, name, value):
    path = saved / "model.safetensors"
    tensors = load_file(path)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, path)
    with pytest.raises(ModelError, match=f"its tensor {name} holds values that are not numbers"):
        from_pretrained(saved)


@pytest.mark.parametrize("kind", ["lite", "paper"])
@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("appearance", {"widths": [1 << 20] * 4}),
        ("appearance", {"widths": [1 << 20] * 3}),
        ("expression_encoder", {"features": 1 << 24}),
        ("generator", {"blocks": 1 << 20}),
        ("generator", {"stages": [8] * 1000}),
        ("appearance", {"depth": 1 << 24}),
    ],
)
def test_a_config_of_a_giant_network_is_refused_before_it_is_made(tmp_path, kind, part, change):
    save_pretrained(build(tiny() if kind == "lite" else tiny_paper()), tmp_path)
    params = json.loads((tmp_path / "config.json").read_text())["params"]
    _edit(tmp_path, params=params | {part: params[part] | change})
    before = getrusage(RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises(ModelError, match="does not fit"):
        from_pretrained(tmp_path)
    assert time.process_time() - start < 5
    assert getrusage(RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize(
    "change", [{"size": 1 << 20}, {"size": 0}, {"size": "64"}, {"size": True}, {"composition": "mine"}, {"composition": ["mmfa"]}]
)
def test_params_that_no_weights_show_are_checked(saved, change):
    _edit(saved, params=json.loads((saved / "config.json").read_text())["params"] | change)
    with pytest.raises(ModelError, match=f"{next(iter(change))} can't be"):
        from_pretrained(saved)


def test_a_deep_or_large_config_is_refused(saved):
    (saved / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="nested more than 64 deep"):
        from_pretrained(saved)
    (saved / "config.json").write_text(" " * 2_000_000 + "{}")
    with pytest.raises(ModelError, match="more than 1,000,000 bytes"):
        from_pretrained(saved)


def test_the_missing_file_is_named(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        from_pretrained(saved)


def test_loading_does_not_import_the_compiler():
    """Building on the meta device would: sympy and 800 modules, a second and 80 MB."""
    program = "import sys; from mmfa.weights import from_pretrained; from_pretrained('lite'); print('sympy' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment).stdout
    assert output.strip() == "False"
