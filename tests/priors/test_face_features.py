"""The second identity network: its architecture on random weights that went through the converter, and, where the variable
MMFA_TEST_FACERES names the real file, its numbers and whom it takes for whom."""

import importlib.util
import os
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import Tensor

from mmfa.errors import ModelError
from mmfa.priors.face_features import FaceFeatures
from mmfa.priors.landmarks import to_grid

WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
# The largest of the 1024 features of the portrait, from the original graph run node by node.
LARGEST = {729: 2.156, 18: 1.8329, 506: 1.8179, 180: 1.7857, 658: 1.7464, 185: 1.7055, 421: 1.6539, 844: 1.6068}
NORM = 14.1155


@pytest.fixture(scope="session")
def converter() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "convert_faceres.py"
    spec = importlib.util.spec_from_file_location("convert_faceres", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def original_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays under the names and in the shapes of the npm package's file, heads included."""
    random = np.random.default_rng(seed)

    def normal(*shape: int, fan: int) -> np.ndarray:
        return (random.standard_normal(shape) * (2 / fan) ** 0.5).astype(np.float16)

    arrays = {"conv1/convolution/merged_input": normal(3, 3, 3, 32, fan=27 * 6400)}
    arrays["conv1_bn/batchnorm_1/sub"] = normal(32, fan=8)
    inputs = 32
    for index, width in enumerate(WIDTHS, 1):
        arrays[f"conv_dw_{index}/depthwise_kernel"] = normal(3, 3, inputs, 1, fan=9)
        arrays[f"conv_dw_{index}_bn/batchnorm_1/mul"] = (0.5 + random.random(inputs)).astype(np.float16)
        arrays[f"conv_dw_{index}_bn/batchnorm_1/sub"] = normal(inputs, fan=8)
        arrays[f"conv_pw_{index}/convolution/merged_input"] = normal(1, 1, inputs, width, fan=inputs)
        arrays[f"conv_pw_{index}_bn/batchnorm_1/sub"] = normal(width, fan=8)
        inputs = width
    return arrays | {"feats/kernel": normal(1024, 256, fan=1024), "age_pred/bias": normal(100, fan=8)}


def tf_convolution(x: Tensor, kernel: Tensor, stride: int, groups: int) -> Tensor:
    """A TensorFlow "SAME" convolution with an odd kernel on an even size: stride 2 pads after only."""
    pad = kernel.shape[-1] // 2
    x = F.pad(x, (0, pad, 0, pad) if stride == 2 else (pad, pad, pad, pad))
    return F.conv2d(x, kernel, None, stride, 0, 1, groups)


def original_forward(arrays: dict[str, np.ndarray], images: Tensor) -> list[Tensor]:
    """The outputs of all 13 blocks, batch norms not folded, from the arrays in TensorFlow's axis order."""
    t = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    x = images.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    x = tf_convolution(x, t["conv1/convolution/merged_input"].permute(3, 2, 0, 1), 2, 1)
    x = (x + t["conv1_bn/batchnorm_1/sub"][:, None, None]).clamp(0, 6)
    outputs = []
    for index in range(1, 14):
        kernel = t[f"conv_dw_{index}/depthwise_kernel"].permute(2, 3, 0, 1)
        x = tf_convolution(x, kernel, 2 if index in (2, 4, 6, 12) else 1, len(kernel))
        x = x * t[f"conv_dw_{index}_bn/batchnorm_1/mul"][:, None, None]
        x = (x + t[f"conv_dw_{index}_bn/batchnorm_1/sub"][:, None, None]).clamp(0, 6)
        x = torch.einsum("bihw,io->bohw", x, t[f"conv_pw_{index}/convolution/merged_input"][0, 0])
        x = (x + t[f"conv_pw_{index}_bn/batchnorm_1/sub"][:, None, None]).clamp(0, 6)
        outputs.append(x)
    return outputs


@pytest.fixture(scope="session")
def random_file(converter: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faceres") / "random.safetensors"
    save_file(converter.trunk(original_arrays()), str(path))
    return path


@pytest.fixture(scope="session")
def random_network(random_file: Path) -> FaceFeatures:
    return FaceFeatures(random_file)


@pytest.fixture(scope="session")
def network() -> FaceFeatures:
    if "MMFA_TEST_FACERES" not in os.environ:
        pytest.skip("MMFA_TEST_FACERES names no file that tools/convert_faceres.py wrote")
    return FaceFeatures(os.environ["MMFA_TEST_FACERES"])


@pytest.fixture
def points(reference: dict) -> Tensor:
    """The portrait's landmarks in pixels."""
    return torch.tensor(reference["second"])


@torch.no_grad()
def test_taps_are_the_original_graphs(random_network: FaceFeatures) -> None:
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    taps = random_network(images)
    assert [tuple(tap.shape) for tap in taps] == [
        (2, 64, 32, 48), (2, 128, 16, 24), (2, 256, 8, 12), (2, 512, 4, 6), (2, 1024, 2, 3),
    ]  # fmt: skip
    outputs = original_forward(original_arrays(), images)
    for tap, wanted in zip(taps, [outputs[i] for i in (0, 2, 4, 10, 12)], strict=True):
        assert float(wanted.std()) > 0.05
        torch.testing.assert_close(tap, wanted, atol=1e-3, rtol=1e-3)


def test_gradient_reaches_images_but_not_weights_and_landmarks(
    random_network: FaceFeatures, picture: Tensor, points: Tensor
) -> None:
    images, landmarks = picture.clone().requires_grad_(), to_grid(points, 512, 512)[None].requires_grad_()
    embedding = random_network.embed(images, landmarks)
    assert embedding.shape == (1, 1024)
    embedding.sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().sum() > 0
    assert landmarks.grad is None
    assert all(p.grad is None and not p.requires_grad for p in random_network.parameters())


def test_chip_is_upright_around_the_face(random_network: FaceFeatures, picture: Tensor, points: Tensor) -> None:
    """Turning picture and landmarks by 90 degrees leaves the chip as it was, up to a pixel: its sampling isn't centred."""
    landmarks = to_grid(points, 512, 512)[None]
    turned = torch.stack([-landmarks[..., 1], landmarks[..., 0]], -1)
    chip = random_network.align(picture, landmarks)
    assert chip.shape == (1, 3, 224, 224)
    other = random_network.align(picture.rot90(-1, (2, 3)), turned)
    lying = chip.rot90(-1, (2, 3))
    assert float((chip - other).abs().mean()) < 0.04 and float((lying - other).abs().mean()) > 0.15


def test_wrong_shapes_are_named(random_network: FaceFeatures) -> None:
    with pytest.raises(ValueError, match=r"\(2, >= 468"):
        random_network.embed(torch.rand(2, 3, 64, 64), torch.zeros(1, 478, 3))
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        random_network(torch.rand(3, 64, 64))


def test_foreign_file_is_refused(tmp_path: Path, random_file: Path) -> None:
    with pytest.raises(ModelError, match="absent"):
        FaceFeatures(tmp_path / "absent.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(random_file.read_bytes()[:5000])
    with pytest.raises(ModelError, match="convert_faceres"):
        FaceFeatures(cut)
    other = tmp_path / "other.safetensors"
    save_file({"stem.weight": np.zeros((32, 3, 3, 3), np.float32)}, str(other))
    with pytest.raises(ModelError, match="convert_faceres"):
        FaceFeatures(other)


def test_converter_reads_arrays_in_the_manifests_order(converter: ModuleType) -> None:
    half, whole = np.arange(6, dtype=np.float16).reshape(2, 3), np.array([7, 8], np.int32)
    manifest = [{"weights": [
        {"name": "a", "shape": [2, 3], "dtype": "float32", "quantization": {"dtype": "float16"}},
        {"name": "b", "shape": [2], "dtype": "int32"},
    ]}]  # fmt: skip
    arrays = converter.read_arrays(manifest, half.tobytes() + whole.tobytes())
    assert arrays["a"].dtype == np.float16 and np.array_equal(arrays["a"], half) and np.array_equal(arrays["b"], whole)


def test_converter_refuses_another_file(converter: ModuleType, tmp_path: Path) -> None:
    for suffix in converter.SHA256:
        (tmp_path / f"faceres{suffix}").write_bytes(b"{}")
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as archive:
        for suffix in converter.SHA256:
            archive.add(tmp_path / f"faceres{suffix}", converter.MODEL + suffix)
    with pytest.raises(SystemExit, match="not the expected file"):
        converter.read_model(tmp_path / "other.tgz")


@torch.no_grad()
def test_portrait_has_the_original_graphs_numbers(network: FaceFeatures, picture: Tensor, points: Tensor) -> None:
    embedding = network.embed(picture, to_grid(points, 512, 512)[None])[0]
    torch.testing.assert_close(embedding[list(LARGEST)], torch.tensor(list(LARGEST.values())), atol=2e-3, rtol=0)
    assert float(embedding.norm()) == pytest.approx(NORM, abs=2e-3)


@torch.no_grad()
def test_mirrored_and_dimmed_face_is_the_same_person_and_noise_is_not(
    network: FaceFeatures, picture: Tensor, points: Tensor
) -> None:
    landmarks = to_grid(points, 512, 512)[None]
    mirrored = landmarks * torch.tensor([-1.0, 1.0, 1.0])
    swapped = mirrored.clone()
    swapped[:, [33, 263]] = mirrored[:, [263, 33]]  # the eye line still runs to the right
    images = torch.cat([picture, picture.flip(3), 0.7 * picture, torch.rand_like(picture)])
    e = network.embed(images, torch.cat([landmarks, swapped, landmarks, landmarks]))
    cosine = F.cosine_similarity(e[:1], e[1:])
    assert cosine[0] > 0.8 and cosine[1] > 0.8 and cosine[2] < 0.5
