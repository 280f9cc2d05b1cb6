"""``mmfa animate``, ``mmfa motion`` and ``mmfa demo``: a photo moves as a video does."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import MediaError
from .common import (
    PHOTO,
    SMALLEST_PICTURE,
    VIDEOS,
    Files,
    add_command,
    add_common,
    add_model,
    add_no_clobber,
    add_output,
    index,
    model_files,
    say,
    say_driver,
    say_reduced,
    say_which_face,
)
from .edit import add_quality, amplitude_of, range_warnings
from .process import tell


def add_parser(commands: argparse._SubParsersAction) -> None:
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
    animate.add_argument(
        "--mode", default="relative", metavar="MODE", help="relative (default), absolute, or rotation=absolute,... by attribute"
    )
    animate.add_argument(
        "--anchor", type=_anchor, default="auto", metavar="auto|first|N", help="driving frame that relative motion starts from"
    )
    animate.add_argument("--no-crop", action="store_true", help="the pictures already are face crops")
    add_quality(animate)
    add_model(animate)
    add_common(animate)
    animate.set_defaults(run=_animate, files=lambda o: Files([o.source, o.driving, *model_files(o.model)], [o.output]))

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
    motion.add_argument("--no-crop", action="store_true", help="the video already is a face crop")
    add_model(motion)
    add_common(motion)
    motion.set_defaults(run=_motion, files=lambda o: Files([o.video, *model_files(o.model)], [o.output]))

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
    add_model(demo)
    add_common(demo)
    demo.set_defaults(run=_demo, files=_demo_files, mode="relative", anchor="auto", no_crop=False, smooth=0.5, lips=1.0, eyes=1.0)


def _anchor(text: str) -> int | str:
    return text if text in ("auto", "first") else index(text)


def _animate(options: argparse.Namespace) -> None:
    from ..animate import parse_modes
    from ..media.files import check_input

    parse_modes(options.mode)
    for path in (options.source, options.driving):
        check_input(path)
    _check_video_output(options.output)
    _run_animation(options, options.source, options.driving, options.output)


def _run_animation(options: argparse.Namespace, source: Path, driving: Path, output: Path) -> None:
    from ..animate import Animator

    with range_warnings():
        amplitude = amplitude_of(options)
    animator = Animator.from_pretrained(options.model, device=options.device, quiet=options.quiet)
    photo = animator.set_source(source, face=options.face, crop=not options.no_crop)
    say_which_face(options, source, photo.faces)
    say_reduced(options, source, photo)
    report = animator.animate(
        driving,
        output,
        mode=options.mode,
        anchor=options.anchor,
        crop=not options.no_crop,
        smoothing=options.smooth,
        amplitude=amplitude,
    )
    say_driver(options, driving, report.driving_faces, held=report.held)
    say(options, f"{report.output}: {report.frames} frames at {report.fps:g} fps.")


def _check_video_output(output: Path) -> None:
    """Say that the output can't be written before the work, not after it."""
    from ..media.files import check_output
    from ..media.video import VideoWriter

    VideoWriter(output, fps=25, size=(64, 64))
    check_output(output, least=SMALLEST_PICTURE)


def _motion(options: argparse.Namespace) -> None:
    from ..animate import Animator
    from ..media.files import check_input, check_output

    check_input(options.video)
    if options.output.suffix.lower() != ".safetensors":
        raise MediaError(f"{options.output} has an unknown motion suffix; use .safetensors.")
    check_output(options.output)
    animator = Animator.from_pretrained(options.model, device=options.device, quiet=options.quiet)
    tracked = animator.motion_of(options.video, face=options.face, crop=not options.no_crop)
    tracked.motion.save(options.output)
    say_which_face(options, options.video, tracked.faces)
    say_driver(options, options.video, 1, held=tracked.held)
    say(options, f"{options.output}: {len(tracked.motion)} frames.")


def _demo(options: argparse.Namespace) -> None:
    from ..demo import DRIVING, SOURCE, next_step, packaged, write_sheet
    from ..media.files import check_input

    source = options.source or packaged(*SOURCE)
    driving = options.driving or packaged(*DRIVING)
    for path in (source, driving):
        check_input(path)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"The folder {options.output} cannot be made: {error.strerror}.") from error
    output, sheet = _demo_outputs(options)
    _run_animation(options, source, driving, output)
    write_sheet(source, driving, output, sheet)
    tell(f"video: {output}\nsheet: {sheet}\n{next_step()}")


def _demo_outputs(options: argparse.Namespace) -> tuple[Path, Path]:
    return options.output / "demo.mp4", options.output / "demo.png"


def _demo_files(options: argparse.Namespace) -> Files:
    reads = [path for path in (options.source, options.driving) if path is not None]
    return Files([*reads, *model_files(options.model)], _demo_outputs(options))
