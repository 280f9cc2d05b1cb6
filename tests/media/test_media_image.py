import contextlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, ImageOps

from mmfa.errors import MediaError
from mmfa.media import image as image_module
from mmfa.media.image import contact_sheet, read_image, read_picture, to_tensor, to_uint8, write_image


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth, with four different corners."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, 255 - x * 2 - y * 2], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
def test_lossless_round_trip(tmp_path, picture, suffix):
    write_image(tmp_path / f"a{suffix}", picture)
    read = read_image(tmp_path / f"a{suffix}")
    assert read.flags.writeable
    np.testing.assert_array_equal(read, picture)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_round_trip(tmp_path, picture, suffix):
    write_image(tmp_path / f"a{suffix}", picture)
    assert np.abs(read_image(tmp_path / f"a{suffix}").astype(int) - picture).mean() < 2


def test_a_transposed_view_can_be_written(tmp_path, picture):
    write_image(tmp_path / "a.png", picture.transpose(1, 0, 2))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture.transpose(1, 0, 2))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_phone_picture_is_turned_upright(tmp_path, picture, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: must be turned clockwise
    options: dict[str, Any] = {"quality": 95} if suffix == "jpg" else {}
    Image.fromarray(picture).save(tmp_path / f"a.{suffix}", exif=exif, **options)
    upright = np.rot90(picture, -1)
    read = read_image(tmp_path / f"a.{suffix}")
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_agrees_with_pillow(tmp_path, picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)


def test_alpha_lies_over_white(tmp_path):
    clear = np.zeros((20, 20, 4), dtype=np.uint8)
    clear[:10] = (200, 0, 0, 255)
    clear[10:, 10:] = (0, 0, 0, 128)
    Image.fromarray(clear).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read[0, 0].tolist() == [200, 0, 0]
    assert read[15, 5].tolist() == [255, 255, 255]
    assert abs(int(read[15, 15, 0]) - 127) <= 1


def test_palette_with_a_transparent_colour(tmp_path):
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.paste(1, (0, 0, 10, 20))
    palette.save(tmp_path / "a.png", transparency=0)
    read = read_image(tmp_path / "a.png")
    assert read[5, 5].tolist() == [200, 100, 50]
    assert read[5, 15].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_mid_grey_stays_mid_grey_in_every_mode(tmp_path, mode):
    if mode == "1":
        levels, expected = Image.new("1", (20, 20), 1), 255
    elif mode == "I;16":
        levels, expected = Image.fromarray(np.full((20, 20), 128 * 257, dtype=np.uint16)), 128
    elif mode == "I":
        levels, expected = Image.fromarray(np.full((20, 20), 128 * 257, dtype=np.int32)), 128
    elif mode == "F":
        levels, expected = Image.fromarray(np.full((20, 20), 0.5, dtype=np.float32)), 128
    elif mode == "P":
        levels, expected = Image.new("RGB", (20, 20), (128, 128, 128)).quantize(2), 128
    else:
        levels, expected = Image.new("RGB", (20, 20), (128, 128, 128)).convert(mode), 128
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr", "I", "F") else "a.png")
    levels.save(path)
    read = read_image(path)
    assert read.shape == (20, 20, 3) and read.dtype == np.uint8
    assert np.abs(read.astype(int) - expected).max() <= 3


def test_16_bit_grey_keeps_its_range(tmp_path):
    ramp = np.repeat(np.linspace(0, 65535, 256).astype(np.uint16)[None], 20, axis=0)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0, :, 0], np.arange(256))


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[3, 3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_large_pictures_are_reduced_evenly(tmp_path, suffix):
    y, x = np.mgrid[0:701, 0:1003]
    large = np.stack([x // 4, y // 3, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    Image.fromarray(large).save(tmp_path / f"a.{suffix}")
    read = read_image(tmp_path / f"a.{suffix}", max_pixels=20_000)
    height, width, _ = read.shape
    assert 15_000 < height * width <= 20_000
    assert width / height == pytest.approx(1003 / 701, rel=0.02)
    expected = np.asarray(Image.fromarray(large).resize((width, height), Image.Resampling.BOX))
    assert np.abs(read.astype(int) - expected).mean() < 3


def test_100_megapixels_in_bounded_memory(tmp_path):
    for suffix in ("jpg", "png"):
        Image.new("L", (10_000, 10_000), 77).save(tmp_path / f"a.{suffix}", compress_level=1)
    # In a process of its own, and the smaller one first: the peak of a process never goes down.
    program = (
        "import sys; from resource import RUSAGE_SELF, getrusage; from mmfa.media.image import read_image\n"
        "before = getrusage(RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    image = read_image(path)\n"
        "    print(image.shape[0], image[50, 50, 0], getrusage(RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.jpg"), str(tmp_path / "a.png")]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=_environment())
    for line, megabytes in zip(output.stdout.splitlines(), (200, 320), strict=True):
        side, level, kibibytes = map(int, line.split())
        assert side == 4000 and level == 77
        assert kibibytes / 1024 < megabytes


def test_postscript_named_as_a_photo_starts_no_ghostscript(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **options: started.append(arguments))
    (tmp_path / "a.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 200\n%%EndComments\n(photo) show\nshowpage\n%%EOF\n"
    )
    with pytest.raises(MediaError, match=r"a\.jpg is not a picture that can be read"):
        read_image(tmp_path / "a.jpg")
    assert not started


@pytest.mark.parametrize("kind", ["PCX", "TGA", "ICO", "SGI", "DDS", "IM", "MSP", "XBM"])
def test_formats_that_nobody_photographs_in_are_not_tried(tmp_path, picture, kind):
    small = Image.fromarray(picture).convert("1" if kind in ("MSP", "XBM") else "RGB")
    small.save(tmp_path / "a.png", format=kind)
    with pytest.raises(MediaError, match=r"a\.png is not a picture"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_the_formats_that_are_read(tmp_path, kind):
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow has no {kind}")
    Image.new("RGB", (40, 30), (200, 100, 50)).save(tmp_path / "a", format=kind)
    photo = read_picture(tmp_path / "a")
    assert photo.full_size == photo.size == (40, 30) and not photo.reduced
    assert np.abs(photo.image.astype(int) - (200, 100, 50)).max() <= 12


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photo_tells_its_full_size_upright(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (1200, 300), (90, 90, 90)).save(tmp_path / f"a.{suffix}", exif=exif)
    photo = read_picture(tmp_path / f"a.{suffix}", max_pixels=40_000)
    assert photo.full_size == ((300, 1200) if orientation == 6 else (1200, 300))
    assert photo.reduced and photo.size in ((400, 100), (100, 400))
    # Upright and of the same shape, also where Pillow turns it while it loads.
    assert photo.size[0] / photo.size[1] == pytest.approx(photo.full_size[0] / photo.full_size[1], rel=0.02)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_too_large_and_too_small_are_refused(tmp_path, monkeypatch):
    Image.new("1", (30, 40)).save(tmp_path / "large.png")
    monkeypatch.setattr(image_module, "LARGEST_PIXELS", 1000)
    with pytest.raises(MediaError, match=r"large\.png is too large: 30 x 40"):
        read_image(tmp_path / "large.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    with pytest.raises(MediaError, match=r"one\.png is too small: 1 x 1"):
        read_image(tmp_path / "one.png")


def test_pillows_own_limit_is_left_as_it_was(tmp_path, picture):
    limit = Image.MAX_IMAGE_PIXELS
    write_image(tmp_path / "a.png", picture)
    read_image(tmp_path / "a.png")
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp", "gif"])
@pytest.mark.parametrize("kept", [0.1, 0.6])
def test_truncated_pictures_are_refused_in_one_sentence(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
    data = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(MediaError, match=rf"a\.{suffix} is ") as caught:
        read_image(tmp_path / f"a.{suffix}")
    assert "\n" not in str(caught.value)


def test_text_is_not_a_picture(tmp_path):
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(MediaError, match=r"a\.jpg is not a picture"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_damage_never_shows_another_error(tmp_path, picture):
    generator = np.random.default_rng(1)
    for suffix in ("png", "jpg", "gif", "webp", "tif"):
        Image.fromarray(picture).save(tmp_path / f"a.{suffix}")
        data = np.frombuffer((tmp_path / f"a.{suffix}").read_bytes(), dtype=np.uint8)
        for _ in range(60):
            damaged = data.copy()
            damaged[generator.integers(0, len(data), 5)] = generator.integers(0, 256, 5)
            (tmp_path / "b").write_bytes(damaged.tobytes())
            with contextlib.suppress(MediaError):
                assert read_image(tmp_path / "b").shape[2] == 3


def test_bad_writes(tmp_path, picture):
    with pytest.raises(MediaError, match="unknown picture suffix"):
        write_image(tmp_path / "a.xyz", picture)
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        write_image(tmp_path / "a.png", picture.astype(np.float32))
    assert not list(tmp_path.iterdir())


def test_contact_sheet_places_frames_and_fills_with_white():
    frames = [np.full((10, 20, 3), level, dtype=np.uint8) for level in (10, 20, 30)]
    sheet = contact_sheet([frames[:2], frames[2:]], gap=4)
    assert sheet.shape == (24, 44, 3)
    assert sheet[0, 0, 0] == 10 and sheet[0, 24, 0] == 20 and sheet[14, 0, 0] == 30
    assert sheet[0, 21, 0] == 255 and sheet[20, 40, 0] == 255
    with pytest.raises(ValueError, match="one shape"):
        contact_sheet([[frames[0], frames[0][:5]]])
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([[]])


def test_tensor_round_trip_is_exact(picture):
    tensor = to_tensor(picture)
    assert tensor.shape == (3, 40, 60) and tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert tensor.max() <= 1
    np.testing.assert_array_equal(to_uint8(tensor), picture)
    np.testing.assert_array_equal(to_uint8(tensor[None].expand(2, -1, -1, -1))[1], picture)


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor([-1.0, 0.6 / 255, 2.0]).view(3, 1, 1)
    assert to_uint8(values).tolist() == [[[0, 1, 255]]]
    assert to_uint8(values.bfloat16()).shape == (1, 1, 3)
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        to_uint8(torch.zeros(1, 4, 4))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_note_is_kept_in_the_file(tmp_path, suffix):
    path = tmp_path / f"noted{suffix}"
    write_image(path, np.zeros((32, 32, 3), np.uint8), note="made up")
    with Image.open(path) as opened:
        assert "made up" in (opened.info.get("Comment"), opened.getexif().get(0x010E))
    assert read_image(path).shape == (32, 32, 3)
