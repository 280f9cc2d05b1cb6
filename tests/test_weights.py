import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmfa.errors import ModelError
from mmfa.nets.mmfa import MMFA
from mmfa.nets.paper import PaperMMFA
from mmfa.nets.sizes import build_model, tiny, tiny_paper
from mmfa.weights import build, from_pretrained, save_pretrained


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    save_pretrained(build_model(tiny()), tmp_path)
    return tmp_path


def _edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("params", [tiny(), tiny_paper()], ids=["lite", "paper"])
@pytest.mark.parametrize("half", [True, False])
def test_round_trip(tmp_path, params, half):
    torch.manual_seed(0)
    model = build_model(params)
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
    assert type(build("tiny")) is MMFA
    with torch.device("meta"):
        assert type(build("paper")) is PaperMMFA


def test_a_config_without_kind_is_a_lite_model(saved):
    config = json.loads((saved / "config.json").read_text())
    assert config.pop("kind") == "lite"
    (saved / "config.json").write_text(json.dumps(config))
    assert type(from_pretrained(saved)) is MMFA


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
