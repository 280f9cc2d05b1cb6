"""Record MediaPipe's own person mask of scikit-image's astronaut picture, for tests/priors.

    python -m venv mpvenv && mpvenv/bin/pip install mediapipe==0.10.21 pillow
    mpvenv/bin/python tools/reference_matte.py .../skimage/data/astronaut.png

Development only. The picture (public domain, NASA), halved to the network's 256 x 256 pixels, goes through the original
graph of the general model; every fourth row and column of the mask, from the third on, is kept, as float16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mediapipe
import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parents[1] / "tests" / "priors" / "reference_matte.npy"


def main() -> None:
    parser = argparse.ArgumentParser(description="Record MediaPipe's person mask of the astronaut picture.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    image = np.array(Image.open(args.image).convert("RGB"))
    halved = image.reshape(256, 2, 256, 2, 3).mean((1, 3)).round().astype(np.uint8)
    with mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as network:
        mask = network.process(halved).segmentation_mask
    np.save(args.out, mask[2::4, 2::4].astype(np.float16))


if __name__ == "__main__":
    main()
