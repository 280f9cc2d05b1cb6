"""Videos, one frame at a time: a reader that copes with what phones record, and an atomic H.264 writer.

A frame is an (H, W, 3) uint8 array, RGB, upright. Memory does not grow with the length of a video.
"""

from mmfa.media.reader import Frame, VideoInfo, VideoReader
from mmfa.media.writer import VIDEO_SUFFIXES, VideoWriter

__all__ = ["VIDEO_SUFFIXES", "Frame", "VideoInfo", "VideoReader", "VideoWriter"]
