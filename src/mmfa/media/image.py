"""Pictures: files to arrays and back, arrays to tensors and back.

An image is an (H, W, 3) uint8 array, RGB, sRGB values 0..255. A tensor image is (3, H, W) float32 in [0, 1].
"""

import math
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from mmfa.errors import MediaError
from mmfa.media.colour import Conversion, conversion, srgb_profile
from mmfa.media.files import atomic_output, check_input

Array = NDArray[np.uint8]

SMALLEST_SIDE = 16
LARGEST_PIXELS = 400_000_000

# All that is opened. Pillow knows forty formats more, some of which start another program (PostScript: Ghostscript) or have
# hardly been tried on hostile files.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
# What Pillow's decoders raise on damaged files, besides OSError for the plain cases.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    struct.error,
    Image.DecompressionBombError,
)
_STRIP_ROWS = 256
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = {5, 6, 7, 8}
_SAVE_OPTIONS: dict[str, tuple[str, dict[str, object]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
}
IMAGE_SUFFIXES = tuple(_SAVE_OPTIONS)
"""Suffixes of the pictures that can be written."""


@dataclass(frozen=True)
class Picture:
    """A picture as it was read. full_size: (width, height) of the file, upright, before any reduction. profile: the name of
    the colour profile it was converted from, None where its values are as stored.
    """

    image: Array
    full_size: tuple[int, int]
    profile: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of `image`."""
        return self.image.shape[1], self.image.shape[0]

    @property
    def reduced(self) -> bool:
        """Whether `image` has fewer pixels than the file."""
        return self.size != self.full_size


def read_image(path: str | os.PathLike[str], *, max_pixels: int = 16_000_000) -> Array:
    """The (H, W, 3) uint8 RGB of a picture; see `read_picture`."""
    return read_picture(path, max_pixels=max_pixels).image


def read_picture(path: str | os.PathLike[str], *, max_pixels: int = 16_000_000, max_side: int | None = None) -> Picture:
    """Read a picture as (H, W, 3) uint8 sRGB, upright by its EXIF orientation, alpha laid over white.

    Read are JPEG, PNG, WEBP, AVIF, GIF, BMP, TIFF, PPM and JPEG 2000, whatever the suffix. A picture of more than `max_pixels`
    is reduced to fit, its shape kept, and so is one whose longer side is more than `max_side`. Beyond the decoder's own buffer (a
    JPEG is decoded at a reduced scale; other formats take 1 to 4 bytes a pixel) memory is bounded by `max_pixels`. Of
    an animation the first frame is read. A colour profile other than sRGB's is converted to sRGB (`mmfa.media.colour`); one that
    is broken is ignored.

    Raises:
        MediaError: missing, damaged, not a picture, under 16 pixels a side, or over 400 megapixels.
    """
    with open_picture(path) as picture:
        width, height = picture.size
        if width * height > LARGEST_PIXELS:
            raise MediaError(
                f"{path} is too large: {width} x {height} pixels, the limit is {LARGEST_PIXELS // 1_000_000} megapixels."
            )
        if min(width, height) < SMALLEST_SIDE:
            raise MediaError(f"{path} is too small: {width} x {height} pixels, at least {SMALLEST_SIDE} a side are needed.")
        target = _fitted_size(width, height, max_pixels, max_side)
        picture.draft(None, target)
        picture.load()
        if picture.size == (height, width):  # Pillow turns a TIFF upright by itself, and then drops the tag
            width, height, target = height, width, target[::-1]
        convert = conversion(picture.info.get("icc_profile"), picture.mode)
        reduced = _reduced_rgb(picture, target, convert)
        orientation = _orientation(picture)
    turn = _UPRIGHT.get(orientation)
    if orientation in _ON_ITS_SIDE:
        width, height = height, width
    image = np.array(reduced if turn is None else reduced.transpose(turn))
    return Picture(image, (width, height), None if convert is None else convert.name)


@contextmanager
def open_picture(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """A picture file, opened by Pillow but not decoded yet; every picture of the package is opened here.

    Only the formats of `read_picture` are tried. There is no limit on the number of pixels.

    Raises:
        MediaError: missing, or not a picture; also for what a damaged one raises inside the block.
    """
    file = check_input(path)
    try:
        with _open_unbounded(file) as picture:
            yield picture
    except MediaError:
        raise
    except UnidentifiedImageError as error:
        raise MediaError(f"{path} is not a picture that can be read; convert it to JPEG or PNG.") from error
    except MemoryError as error:
        raise MediaError(f"{path} needs more memory than there is; make the picture smaller.") from error
    except _DECODE_ERRORS as error:
        raise MediaError(f"{path} is a damaged or unsupported picture ({error}).") from error


def write_image(path: str | os.PathLike[str], image: Array, *, note: str | None = None) -> None:
    """Write an (H, W, 3) uint8 image; the suffix (png, jpg, webp, bmp, tif) sets the format.

    The file says that its colours are sRGB, by a profile. `note` is kept in it: as the text "Comment" of a PNG, as the EXIF
    description of other formats. BMP has no place for either.

    Raises:
        MediaError: unknown suffix or unwritable place.
        ValueError: `image` has another shape or type.
    """
    path = Path(path)
    check_image(image)
    if path.suffix.lower() not in _SAVE_OPTIONS:
        raise MediaError(f"{path} has an unknown picture suffix; use one of {', '.join(sorted(_SAVE_OPTIONS))}.")
    picture_format, options = _SAVE_OPTIONS[path.suffix.lower()]
    with atomic_output(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(
            temporary, format=picture_format, **options, **_profile_options(picture_format), **_note_options(picture_format, note)
        )


def _profile_options(picture_format: str) -> dict[str, object]:
    profile = None if picture_format == "BMP" else srgb_profile()
    return {} if profile is None else {"icc_profile": profile}


def _note_options(picture_format: str, note: str | None) -> dict[str, object]:
    if note is None or picture_format == "BMP":
        return {}
    if picture_format == "PNG":
        text = PngInfo()
        text.add_text("Comment", note)
        return {"pnginfo": text}
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = note
    return {"exif": exif}


def contact_sheet(rows: Sequence[Sequence[Array]], *, gap: int = 4) -> Array:
    """Lay frames of one size out as a grid with white gaps; short rows are filled with white.

    Args:
        rows: the frames, each (H, W, 3) uint8.
        gap: pixels between neighbours.

    Raises:
        ValueError: no frame, or frames of different shapes.
    """
    frames = [frame for row in rows for frame in row]
    if not frames:
        raise ValueError("A contact sheet needs at least one frame.")
    shapes = sorted({frame.shape for frame in frames})
    if len(shapes) > 1:
        raise ValueError(f"The frames of a contact sheet must have one shape, got {shapes}.")
    check_image(frames[0])
    height, width, _ = frames[0].shape
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, frame in enumerate(row):
            top, left = i * (height + gap), j * (width + gap)
            sheet[top : top + height, left : left + width] = frame
    return sheet


def to_tensor(image: Array) -> torch.Tensor:
    """Turn an (H, W, 3) uint8 image into a contiguous (3, H, W) float32 tensor in [0, 1]."""
    check_image(image)
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), dtype=np.float32, order="C")).div_(255)


def to_uint8(tensor: torch.Tensor) -> Array:
    """Turn (3, H, W) or (B, 3, H, W) in [0, 1] into (H, W, 3) or (B, H, W, 3) uint8, clamped and rounded.

    Raises:
        ValueError: `tensor` has another shape.
    """
    if tensor.dim() not in (3, 4) or tensor.shape[-3] != 3:
        raise ValueError(f"Expected a tensor (3, H, W) or (B, 3, H, W), got {tuple(tensor.shape)}.")
    levels = tensor.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    array: Array = levels.movedim(-3, -1).contiguous().cpu().numpy()
    return array


def check_image(image: Array) -> None:
    """Raise ValueError unless `image` is a non-empty (H, W, 3) uint8 array."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"Expected an image (H, W, 3) uint8, got {image.shape} {image.dtype}.")


_open_lock = threading.Lock()


@contextmanager
def _open_unbounded(path: Path) -> Iterator[Image.Image]:
    """Open without Pillow's own size limit, which is a module global and lower than ours."""
    with _open_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(path, formats=_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with picture:
        yield picture


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Those of our formats that this Pillow has."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _fitted_size(width: int, height: int, max_pixels: int, max_side: int | None) -> tuple[int, int]:
    scale = min(1.0, math.sqrt(max_pixels / (width * height)), (max_side or math.inf) / max(width, height))
    return max(1, int(width * scale + 1e-6)), max(1, int(height * scale + 1e-6))


def _reduced_rgb(picture: Image.Image, target: tuple[int, int], convert: Conversion | None) -> Image.Image:
    """Convert to sRGB at about `target` size strip by strip, so that no second full-size copy is made."""
    width, height = picture.size
    factor = max(1, min(width // target[0], height // target[1]))
    reduced = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    # Float pictures have no agreed range: 0..1 if nothing exceeds 1, else 0..255.
    extrema = picture.getextrema() if picture.mode == "F" else None
    unit_range = extrema is not None and float(extrema[1]) <= 1.0  # type: ignore[arg-type]
    rows = factor * max(1, _STRIP_ROWS // factor)
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(top + rows, height)))
        if convert is None or convert.mode == "RGB":
            small = _to_rgb(strip, unit_range=unit_range).reduce(factor)
            reduced.paste(small if convert is None else convert(small), (0, top // factor))
        else:
            flat = strip if convert.mode == "CMYK" else _to_rgb(strip, unit_range=unit_range).getchannel(0)
            reduced.paste(convert(flat.reduce(factor)), (0, top // factor))
    if reduced.width * reduced.height > target[0] * target[1]:
        reduced = reduced.resize(target, Image.Resampling.LANCZOS)
    return reduced


def _to_rgb(strip: Image.Image, *, unit_range: bool) -> Image.Image:
    if strip.mode.startswith("I"):
        levels = np.asarray(strip).astype(np.float32) / 257.0
        return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if strip.mode == "F":
        levels = np.nan_to_num(np.asarray(strip)) * (255.0 if unit_range else 1.0)
        return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if strip.has_transparency_data:
        clear = strip.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, clear).convert("RGB")
    return strip.convert("RGB")


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except _DECODE_ERRORS:
        return 1  # A broken EXIF block is no reason to refuse a good picture.
