"""Colour profiles: pictures come as sRGB, by numbers that are worked out here without LittleCMS."""

import io
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from mmfa.media import colour
from mmfa.media.image import read_image, read_picture, write_image

# The colorants of Display P3 as Apple's profile has them (D50), and the exact linear way from P3 to sRGB, both D65.
P3_COLORANTS = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
P3_TO_SRGB = np.array([[1.22494, -0.22494, 0.0], [-0.04206, 1.04206, 0.0], [-0.01964, -0.07864, 1.09827]])
D50 = (0.9642, 1.0, 0.8249)


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(fixed(value) for value in values)


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256))


def srgb_curve() -> bytes:
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + b"".join(map(fixed, numbers))


def described(text: str) -> bytes:
    return b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text.encode() + b"\0" + bytes(4 + 4 + 2 + 1 + 67)


def profile(space: bytes, tags: dict[bytes, bytes], *, kind: bytes = b"mntr", connection: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2 by hand."""
    tags = {b"desc": described("Made Here"), b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": xyz(D50), **tags}
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = bytes(4) + b"lcms" + struct.pack(">I", 0x02400000) + kind + space + connection + bytes(12) + b"acsp" + bytes(28)
    head += b"".join(map(fixed, D50))
    whole = head.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def display_p3() -> bytes:
    tags = {name + b"XYZ": xyz(values) for name, values in zip((b"r", b"g", b"b"), P3_COLORANTS, strict=True)}
    return profile(b"RGB ", tags | {name + b"TRC": srgb_curve() for name in (b"r", b"g", b"b")})


def ink() -> bytes:
    """A press on which only black ink shows: L* = 100 (1 - K), whatever C, M and Y."""
    table = b"".join(bytes([255 * (1 - k), 128, 128]) for _ in range(8) for k in (0, 1))  # K changes fastest
    ramp = bytes(range(256))
    lut = (
        b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + b"".join(map(fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1))) + ramp * 4 + table + ramp * 3
    )
    return profile(b"CMYK", {b"A2B0": lut}, kind=b"prtr", connection=b"Lab ")


def encode(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def decode(levels: np.ndarray) -> np.ndarray:
    values = levels / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def colours(count: int = 1024) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, count // 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_a_p3_picture_comes_as_srgb(tmp_path: Path, suffix: str) -> None:
    stored = colours()
    path = tmp_path / f"a.{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(stored).save(path, icc_profile=display_p3(), **options)
    photo = read_picture(path)
    expected = encode(decode(stored) @ P3_TO_SRGB.T)
    assert np.abs(photo.image - expected).max() <= 2
    assert np.abs(stored - expected).max() > 20  # the picture would have been another one
    assert photo.profile == "Made Here"


def test_a_p3_photo_of_a_phone(tmp_path: Path) -> None:
    stored = np.full((64, 48, 3), (200, 100, 50), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "a.jpg", quality=100, subsampling=0, icc_profile=display_p3(), exif=exif)
    photo = read_picture(tmp_path / "a.jpg")
    assert photo.image.shape == (48, 64, 3)
    # Display P3 (200, 100, 50) is sRGB (215, 95, 31).
    assert np.abs(photo.image.astype(int) - (215, 95, 31)).max() <= 3


def test_reduced_and_with_alpha(tmp_path: Path) -> None:
    stored = np.full((400, 600, 4), (200, 100, 50, 255), np.uint8)
    stored[:200, :, 3] = 0
    Image.fromarray(stored).save(tmp_path / "a.png", icc_profile=display_p3())
    image = read_image(tmp_path / "a.png", max_pixels=10_000)
    assert image.shape[0] < 100
    assert (image[:20] == 255).all()
    assert np.abs(image[-20:].astype(int) - (215, 95, 31)).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_with_a_profile_of_grey(tmp_path: Path, mode: str) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None], 16, axis=0)
    picture = Image.fromarray(ramp.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(ramp).convert(mode)
    assert picture.mode == mode
    picture.save(tmp_path / "a.png", icc_profile=profile(b"GRAY", {b"kTRC": gamma(1.8)}))
    expected = encode((np.arange(256) / 255) ** 1.8)
    assert np.abs(read_image(tmp_path / "a.png")[3] - expected[:, None]).max() <= 2


def test_grey_with_a_profile_of_colour(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None], 16, axis=0)
    Image.fromarray(ramp).save(tmp_path / "a.png", icc_profile=display_p3())
    assert np.abs(read_image(tmp_path / "a.png")[3].astype(int) - np.arange(256)[:, None]).max() <= 1  # P3's greys are sRGB's


def test_cmyk_with_its_profile(tmp_path: Path) -> None:
    stored = np.zeros((16, 48, 4), np.uint8)
    stored[:, :16] = (255, 0, 255, 0)  # green by the plain formula, white on this press
    stored[:, 16:32] = (0, 0, 0, 255)
    stored[:, 32:] = (0, 0, 0, 128)  # L* 50
    Image.fromarray(stored, "CMYK").save(tmp_path / "a.tif", icc_profile=ink())
    image = read_image(tmp_path / "a.tif").astype(int)
    assert np.abs(image[8, 8] - 255).max() <= 2
    assert image[8, 24].max() <= 2
    assert np.abs(image[8, 40] - 119).max() <= 2


@pytest.mark.parametrize(
    "data", [b"not a profile at all" * 20, display_p3()[:200], ink(), profile(b"GRAY", {b"kTRC": gamma(1.8)})]
)
def test_broken_profiles_and_those_of_other_pictures_are_ignored(tmp_path: Path, data: bytes) -> None:
    stored = colours()
    Image.fromarray(stored).save(tmp_path / "a.png", icc_profile=data)
    photo = read_picture(tmp_path / "a.png")
    assert photo.profile is None
    np.testing.assert_array_equal(photo.image, stored)


def test_a_large_picture_is_converted_in_bounded_memory(tmp_path: Path) -> None:
    Image.new("L", (10_000, 10_000), 77).save(tmp_path / "a.png", compress_level=1, icc_profile=display_p3())
    program = (
        "import sys; from resource import RUSAGE_SELF, getrusage; from mmfa.media.image import read_image\n"
        "before = getrusage(RUSAGE_SELF).ru_maxrss\n"
        "image = read_image(sys.argv[1])\n"
        "print(image.shape[0], image[50, 50, 0], getrusage(RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.png")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    side, level, kibibytes = map(int, output.split())
    assert side == 4000 and abs(level - 77) <= 1
    assert kibibytes / 1024 < 320


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_pictures_are_written_with_the_profile_of_srgb(tmp_path: Path, suffix: str) -> None:
    image = colours()
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}{suffix}", image)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    with Image.open(tmp_path / f"a{suffix}") as opened:
        kept = opened.info["icc_profile"]
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(kept)))
    photo = read_picture(tmp_path / f"a{suffix}")
    assert photo.profile is None  # so that reading what was written changes no value
    if suffix in (".png", ".tif"):
        np.testing.assert_array_equal(photo.image, image)


def test_the_written_profile_has_no_time_in_it() -> None:
    colour.srgb_profile.cache_clear()
    first = colour.srgb_profile()
    assert first is not None and first[24:36] == struct.pack(">6H", 2000, 1, 1, 0, 0, 0) and len(first) < 1000


def test_without_littlecms_values_are_as_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = colours()
    Image.fromarray(stored).save(tmp_path / "a.png", icc_profile=display_p3())
    colour.srgb_profile.cache_clear()
    monkeypatch.setattr(features, "check", lambda name: False)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), stored)
    write_image(tmp_path / "b.png", stored)
    monkeypatch.undo()
    colour.srgb_profile.cache_clear()
    with Image.open(tmp_path / "b.png") as opened:
        assert "icc_profile" not in opened.info
