"""Writers of odd files: what an honest library would not write, or not without help."""

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mmfa.media.image import Array

T = TypeVar("T")
SOUND_RATE = 44100
MILLISECOND = Fraction(1, 1000)


# -- pictures and videos ------------------------------------------------------------------------------------------------


def write_black_png(path: Path, width: int, height: int) -> None:
    """A black picture of one bit a pixel: a small file, whatever its size in pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    # The pixels of 3600 megapixels would take seconds to compress: a block is compressed once, and repeated.
    length = height * (1 + (width + 7) // 8)
    size = 1 << 20
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = pack.compress(bytes(size)) + pack.flush(zlib.Z_FULL_FLUSH)
    rest = pack.compress(bytes(length % size)) + pack.flush()
    checksum = (length % 65521) << 16 | 1  # Adler-32 of `length` zeros
    body = b"\x78\xda" + block * (length // size) + rest + struct.pack(">I", checksum)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def write_video(
    path: Path,
    frames: Sequence[Array],
    *,
    fps: int = 25,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    sound: str | None = None,
    times: Sequence[int] | None = None,
    container: str | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """Encode `frames` (H,W,3) uint8; none: a file of sound alone, one second long.

    sound: an audio codec for a sine as long as the frames. times: when each frame is shown, in milliseconds; default: by `fps`.
    """
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        video: VideoStream | None = None
        if frames:
            video = _of(VideoStream, output.add_stream(codec, rate=fps))
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = pixels
            if times is not None:
                video.time_base = video.codec_context.time_base = MILLISECOND
        voice = None if sound is None else output.add_stream(sound, rate=SOUND_RATE, layout="mono")
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], MILLISECOND
            assert video is not None
            output.mux(video.encode(frame))
        if video is not None:
            output.mux(video.encode(None))
        if sound is not None:
            _write_sine(output, voice, seconds=len(frames) / fps or 1.0, whole_numbers=sound.startswith("pcm"))


def _of(kind: type[T], stream: object) -> T:
    """A stream, which is of this kind."""
    assert isinstance(stream, kind)
    return stream


def _write_sine(output: Any, voice: Any, *, seconds: float, whole_numbers: bool) -> None:
    wave = np.sin(np.arange(int(SOUND_RATE * seconds)) / 16) / 4
    values = (wave * 32767).astype(np.int16) if whole_numbers else wave.astype(np.float32)
    for start in range(0, len(values), 1024):
        block = values[None, start : start + 1024]
        sound = av.AudioFrame.from_ndarray(block, format="s16" if whole_numbers else "fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        output.mux(voice.encode(sound))
    output.mux(voice.encode(None))


def turn_display_matrix(path: Path, target: Path) -> None:
    """A copy of an MP4 that tells players to turn its picture by 90 degrees, as telephones do."""
    data = bytearray(path.read_bytes())
    header = data.find(b"tkhd") + 4
    matrix = header + (40 if data[header] == 0 else 52)  # by the version of the box, which has longer times from 1
    struct.pack_into(">9i", data, matrix, 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    target.write_bytes(data)


def write_avi_without_rate(path: Path, frames: Sequence[Array]) -> None:
    """An AVI whose headers say 0 frames per second."""
    write_video(path, frames, codec="mjpeg", pixels="yuvj420p", container="avi")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.find(b"strh") + 8 + 24, 0)
    struct.pack_into("<I", data, data.find(b"avih") + 8, 0)
    path.write_bytes(data)


# -- tensors and shards -------------------------------------------------------------------------------------------------


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: dict[str, str]) -> None:
    """By hand, because the library refuses to write some of what it may have to read."""
    header: dict[str, Any] = {"__metadata__": metadata}
    blob = b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array, np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    write_safetensors_header(path, header, blob)


def write_safetensors_header(path: Path, header: dict[str, Any], blob: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


def write_motion(
    path: Path,
    *,
    frames: int = 5,
    width: int = 64,
    version: str = "2",
    fps: str = "25.0",
    kind: str = "mmfa-motion",
    **change: NDArray[Any] | None,
) -> None:
    """A motion file of a face that stays where it is; `change`: tensors to put in place of its own, or None to leave one out."""
    tensors: dict[str, NDArray[Any] | None] = {
        "rotation": np.tile(np.eye(3), (frames, 1, 1)),
        "scale": np.full((frames, 1), 0.5),
        "translation": np.zeros((frames, 3)),
        "expression": np.random.default_rng(0).normal(0, 0.1, (frames, width)),
        "intensity": np.ones((frames, 1)),
    }
    kept = {name: array for name, array in (tensors | change).items() if array is not None}
    write_safetensors(path, kept, {"format": kind, "version": version, "fps": fps})


def write_prepared(root: Path, row: dict[str, Any], shard: bytes | dict[str, bytes | None]) -> None:
    """A prepared data set of one row. shard: the bytes of its only shard, or its members; None as contents: 64 GB of nothing."""
    (root / "shards").mkdir(parents=True)
    header = {"format": "mmfa-dataset", "version": 1, "size": 256, "rows": 1}
    (root / "index.jsonl").write_text(json.dumps(header) + "\n" + json.dumps(row) + "\n")
    path = root / row["shard"]
    if isinstance(shard, bytes):
        path.write_bytes(shard)
        return
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (shard | {"x.json": json.dumps(row).encode()}).items():
            info, body = tarfile.TarInfo(name), content
            if body is None:
                info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name}
                info.pax_headers["GNU.sparse.realsize"] = str(1 << 36)
                body = f"1\n{(1 << 36) - 1}\n1\n".encode().ljust(512, b"\0") + b"x"
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
