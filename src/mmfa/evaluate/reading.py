"""The frames of one clip for everything that is measured of it, decoded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import MediaError
from ..media.image import Array
from .protocol import Clip

HELD_BYTES = 512 * 2**20
"""Frames of a clip that are kept at most: all that are measured of 7 minutes of 256 px at 25 fps and a stride of 4."""


class Reading:
    """One clip, read once from its first frame to its last. Frames that are asked for again are kept, up to `HELD_BYTES`.

    wanted: numbers of the frames to keep, the most important first. Frames that are asked for again and were not kept are
    decoded again.
    """

    def __init__(self, clip: Clip, wanted: Iterable[int]) -> None:
        self.clip = clip
        most = HELD_BYTES // (3 * clip.size**2)
        self._keep = set(list(dict.fromkeys(wanted))[:most])
        self._kept: dict[int, Array] = {}
        self._stream = enumerate(clip.read())
        self._passed = 0

    def every(self) -> Iterator[Array]:
        """All frames (S,S,3) uint8."""
        return self.at(range(self.clip.frames))

    def at(self, indices: Iterable[int]) -> Iterator[Array]:
        """The frames (S,S,3) uint8 of ascending numbers. Raises MediaError when the clip has more or fewer than it says."""
        again: Iterator[tuple[int, Array]] | None = None
        for index in indices:
            if index in self._kept:
                yield self._kept[index]
            elif again is None and index >= self._passed:
                yield self._go_on(index)
            else:
                again = again or enumerate(self.clip.read())
                yield next(frame for place, frame in again if place == index)

    def _go_on(self, index: int) -> Array:
        for place, frame in self._stream:
            self._passed = place + 1
            if place in self._keep:
                self._kept[place] = frame
            if place == index:
                break
        else:
            raise self._miscounted()
        if index == self.clip.frames - 1:
            for place, _ in self._stream:
                self._passed = place + 1
            if self._passed > self.clip.frames:
                raise self._miscounted()
        return frame

    def _miscounted(self) -> MediaError:
        return MediaError(
            f"{self.clip.path} has {self.clip.frames} frames by its packets, but {self._passed} can be decoded; leave it out, or "
            "make it anew with mmfa prepare."
        )
