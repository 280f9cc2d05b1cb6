"""VGG-19 and VGG-Face as perceptual spaces, from the official weight files where the user has them.

Nothing is downloaded. The files are looked for in torch hub's cache (`mmfa.priors.hub.hub_path`), where
torchvision puts them too:

- ``vgg19-dcbb9e9d.pth``: torchvision's VGG-19, trained on ImageNet; keys ``features.0.weight`` ... (index of the layer
  in the sequence of convolutions, ReLUs and poolings).
- ``vgg_face_dag.pth``: VGG-Face (Parkhi et al. 2015, 16 layers) as converted to PyTorch by its group
  (``pytorch-mcn``); keys ``conv1_1.weight`` ... ``conv5_3.bias``.

The fully connected layers, and whatever lies behind the last tap, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfa.errors import ModelError
from mmfa.priors.hub import find_hub_file
from mmfa.priors.packages import read_foreign_weights

WIDTHS = (64, 128, 256, 512, 512)


@dataclass(frozen=True)
class VGGParams:
    """file, origin: the official weight file and where it is published. convolutions: per block, those before the block's
    pooling. indexed: whether the file's keys count layers (torchvision) or name block and convolution. mean, std: of RGB
    in [0, 1].
    """

    file: str
    origin: str
    convolutions: tuple[int, int, int, int, int]
    indexed: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def vgg19_params() -> VGGParams:
    """VGG-19 of torchvision, trained on ImageNet."""
    file = "vgg19-dcbb9e9d.pth"
    origin = f"https://download.pytorch.org/models/{file}"
    return VGGParams(file, origin, (2, 2, 4, 4, 4), True, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def vggface_params() -> VGGParams:
    """VGG-Face of 16 layers (Parkhi et al. 2015)."""
    file = "vgg_face_dag.pth"
    origin = f"https://www.robots.ox.ac.uk/~albanie/models/pytorch-mcn/{file}"
    # The network takes 0 to 255 minus its training set's mean.
    red, green, blue = (value / 255 for value in (129.186279296875, 104.76238250732422, 93.59396362304688))
    return VGGParams(file, origin, (2, 2, 3, 3, 3), False, (red, green, blue), (1 / 255, 1 / 255, 1 / 255))


class VGG(nn.Module):
    """Frozen VGG trunk as a list of feature maps.

    ``forward(images)``: images (B, 3, H, W) RGB in [0, 1], H and W >= 16 -> five taps, the first ReLU of each block as
    in FOMM and Face-vid2vid: relu1_1 64 at 1/1, relu2_1 128 at 1/2, relu3_1 256 at 1/4, relu4_1 512 at 1/8, relu5_1 512
    at 1/16. Differentiable with respect to the images; the weights take no gradient. The taps are not normalised.

    `path`: the official file, by default looked for in torch hub's cache. Raises `ModelError` when it is not there or
    is not what was expected.
    """

    TAP_CHANNELS = WIDTHS

    mean: Tensor
    std: Tensor

    def __init__(self, params: VGGParams, path: str | Path | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        inputs = 3
        # Behind the fifth block's first convolution there is no tap.
        for width, count in zip(WIDTHS, (*params.convolutions[:-1], 1), strict=True):
            self.blocks.append(nn.ModuleList(nn.Conv2d(width if c else inputs, width, 3, padding=1) for c in range(count)))
            inputs = width
        self.register_buffer("mean", torch.tensor(params.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(params.std)[:, None, None], persistent=False)
        self._load(params, Path(path) if path is not None else find_hub_file(params.file, origin=params.origin))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) RGB in [0, 1] -> five taps; see the class. Raises ValueError for another shape."""
        if images.dim() != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 16:
            raise ValueError(f"images must be (B, 3, H, W) with sides of at least 16, got {tuple(images.shape)}")
        x = (images - self.mean) / self.std
        taps = []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, nn.ModuleList)
            x = x if index == 0 else F.max_pool2d(x, 2)
            for position, convolution in enumerate(block):
                x = F.relu(convolution(x))
                if position == 0:
                    taps.append(x)
        return taps

    @torch.no_grad()
    def _load(self, params: VGGParams, path: Path) -> None:
        try:
            state = read_foreign_weights(path)
            layer = 0
            for index, block in enumerate(self.blocks):
                assert isinstance(block, nn.ModuleList)
                for position, convolution in enumerate(block):
                    key = f"features.{layer}" if params.indexed else f"conv{index + 1}_{position + 1}"
                    convolution.load_state_dict({name: state[f"{key}.{name}"] for name in ("weight", "bias")})
                    layer += 2
                layer += 1
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{path} is not the official {params.file}: {reason}") from error
