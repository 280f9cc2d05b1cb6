"""Colour profiles: pictures in any profile to sRGB, and sRGB's own profile for the pictures that are written.

LittleCMS does the work, through Pillow. Relative colorimetric with black point compensation, as picture editors do by default:
white stays white, and colours that sRGB has stay as they are; those beyond it are clipped.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms, features

_NEAR = 1.0
"""Levels: a profile that moves no colour by more than this is sRGB under another name, and pixels stay as they are."""
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode for each of ICC's colour spaces that pictures have."""
_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
_NO_PROFILE = {"F", "LAB", "HSV"}
_LATTICE = 9  # colours an axis that are tried
_DATE = slice(24, 36)


@dataclass(frozen=True)
class Conversion:
    """From one profile to sRGB. `mode` is what pictures must have to be converted: RGB, L or CMYK. `name`: the profile's own."""

    mode: str
    name: str
    transform: ImageCms.ImageCmsTransform

    def __call__(self, picture: Image.Image) -> Image.Image:
        """A picture of `mode` as sRGB, mode RGB."""
        converted = ImageCms.applyTransform(picture, self.transform)
        assert converted is not None
        return converted


def conversion(profile: object, mode: str) -> Conversion | None:
    """How to bring a picture of Pillow's `mode` from an ICC `profile` (its bytes) to sRGB.

    None where nothing is to be done: no profile, sRGB's own, one that is broken, or one of another kind of picture.
    """
    if not isinstance(profile, bytes) or not profile or not features.check("littlecms2"):
        return None
    known = _conversion(profile)
    if known is None:
        return None
    is_cmyk = mode == "CMYK"
    # Grey pixels may have a profile of RGB, whose grey axis they are then on; colours can't have one of grey.
    fits = {"CMYK": is_cmyk, "L": mode in _GREY, "RGB": not is_cmyk and mode not in _NO_PROFILE}[known.mode]
    return known if fits else None


@lru_cache(maxsize=4)  # a folder of frames has one profile in all of them
def _conversion(profile: bytes) -> Conversion | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES.get(source.profile.xcolor_space.strip())
        if mode is None:
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        found = Conversion(mode, (source.profile.profile_description or "").strip(), transform)
        return None if mode != "CMYK" and _is_identity(found) else found
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return None  # A broken profile is no reason to refuse a good picture.


def _is_identity(found: Conversion) -> bool:
    if found.mode == "L":
        probe = np.arange(256, dtype=np.uint8)[None]
        plain = np.repeat(probe[..., None], 3, axis=2)
    else:
        steps = np.linspace(0, 255, _LATTICE).round().astype(np.uint8)
        probe = plain = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    changed = np.asarray(found(Image.fromarray(probe))).astype(np.int16)
    return bool(np.abs(changed - plain).max() <= _NEAR)


@lru_cache(maxsize=1)
def srgb_profile() -> bytes | None:
    """The ICC profile of sRGB, the same bytes every time; None where Pillow is built without LittleCMS."""
    if not features.check("littlecms2"):
        return None
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # LittleCMS writes the time of day into the header.
    profile[_DATE] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    return bytes(profile)
