"""``mmfa animate``, ``mmfa motion`` and ``mmfa demo``: a photo moves as a video does."""

from __future__ import annotations

import argparse
from pathlib import Path

from .common import (
    PHOTO,
    VIDEOS,
    Commands,
    add_command,
    add_common,
    add_crop,
    add_model,
    add_no_clobber,
    add_output,
    add_photo,
    add_quality,
    index,
)


def add_parser(commands: Commands) -> None:
    """Register ``animate``, ``motion`` and ``demo``."""
    animate = add_command(
        commands,
        "animate",
        "a photo and a driving video in, a video out",
        examples="""
            me.jpg talk.mp4 -o out.mp4
            me.jpg talk.safetensors -o out.mp4 --mode rotation=absolute,expression=relative --smooth 0.8
        """,
    )
    animate.add_argument("source", type=Path, metavar="SOURCE", help=PHOTO)
    animate.add_argument("driving", type=Path, metavar="DRIVING", help="driving video, or a motion file (.safetensors)")
    add_output(animate, "OUT.mp4", f"the video: {VIDEOS}, with the sound of the driving video")
    _add_driven(animate)
    add_model(animate)
    add_photo(animate)
    animate.set_defaults(request="animate")

    motion = add_command(
        commands,
        "motion",
        "extract the motion of a video into a file",
        examples="""
            talk.mp4 -o talk.safetensors
        """,
    )
    motion.add_argument("video", type=Path, metavar="VIDEO", help="a video file: MP4, MOV, MKV, WebM, AVI, GIF or another")
    add_output(motion, "FILE.safetensors", "the motion file: .safetensors")
    add_crop(motion, "the video already is a face crop")
    add_model(motion)
    add_common(motion)
    motion.set_defaults(request="motion")

    demo = add_command(
        commands,
        "demo",
        "animate the packaged portrait by the packaged video",
        examples="""
            -o demo
            --source me.jpg --driving talk.mp4
        """,
    )
    demo.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="FOLDER", help="default: demo")
    add_no_clobber(demo)
    demo.add_argument("--source", type=Path, metavar="SOURCE", help=f"your photo instead: {PHOTO}")
    demo.add_argument("--driving", type=Path, metavar="DRIVING", help="your video, or motion file (.safetensors), instead")
    _add_driven(demo)
    add_model(demo)
    add_photo(demo)
    demo.set_defaults(request="demo")


def _add_driven(parser: argparse.ArgumentParser) -> None:
    """What is common to all that animates by a driver."""
    parser.add_argument("--mode", metavar="MODE", help="relative (default), absolute, or rotation=absolute,... by attribute")
    parser.add_argument(
        "--anchor", type=_anchor, default="auto", metavar="auto|first|N", help="driving frame that relative motion starts from"
    )
    parser.add_argument("--unclipped", action="store_true", help="turn as far as the driver, beyond what the photo shows, too")
    add_crop(parser)
    add_quality(parser)


def _anchor(text: str) -> int | str:
    return text if text in ("auto", "first") else index(text)
