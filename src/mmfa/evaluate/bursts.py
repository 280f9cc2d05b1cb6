"""Which frames are measured: every few, and bursts of consecutive ones for the temporal metrics."""

from __future__ import annotations

STRIDE = 4
"""Of neighbouring frames each says little that the other doesn't."""
BURSTS = 3
BURST_FRAMES = 5


def bursts(frames: int) -> list[range]:
    """Which frames of a clip of `frames` frames: `BURSTS` bursts, evenly from its second frame to its last.

    A clip too short to hold them apart is one burst as a whole, but for its first frame, which may be the source.
    """
    if frames - 1 <= BURSTS * BURST_FRAMES:
        return [range(1, frames)] if frames > 1 else []
    last = frames - BURST_FRAMES
    starts = [1 + round(number * (last - 1) / (BURSTS - 1)) for number in range(BURSTS)]
    return [range(start, start + BURST_FRAMES) for start in starts]
