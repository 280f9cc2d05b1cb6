"""``mmfa edit`` and ``mmfa canonical``: motion attributes moved one by one, canonical faces."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, MediaError
from .common import (
    DRIVER,
    MOMENT,
    PHOTO,
    PICTURES,
    VIDEOS,
    Files,
    add_command,
    add_common,
    add_model,
    add_output,
    add_set,
    check_picture_or_video,
    is_video,
    model_files,
    named_files,
    range_warnings,
    say,
    say_driver,
    seconds,
    set_source,
    set_values,
    single_motion,
    write_picture,
)

if TYPE_CHECKING:
    from ..animate import Animator
    from ..edit import Amplitude, Edit, Span
    from ..media.image import Array
    from ..motion import Motion

_SLIDERS = {
    "yaw": "degrees, positive turns the nose to the left of the picture",
    "pitch": "degrees, positive lowers the nose",
    "roll": "degrees, positive turns clockwise",
    "scale": "factor on the size",
    "tx": "shift to the right, in fractions of the crop's side",
    "ty": "shift down, in fractions of the crop's side",
    "intensity": "strength of the expression: 0 neutral, 1 as seen, up to 1.5",
}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Register ``edit`` and ``canonical``."""
    edit = add_command(
        commands,
        "edit",
        "move head and expression of a photo by hand or by a driver, each alone",
        examples="""
            me.jpg -o out.png --yaw 15 --set smile=0.8
            me.jpg -o out.mp4 --from talk.mp4 --take expression --intensity 1.2
            me.jpg -o out.png --expression talk.mp4@2.4
        """,
    )
    edit.add_argument("source", type=Path, metavar="SOURCE", help=PHOTO)
    add_output(edit, "OUT", f"a picture ({PICTURES}), or for a clip a video ({VIDEOS})")
    edit.add_argument("--from", dest="driving", type=Path, metavar="DRIVING", help=f"what to take from: a {DRIVER}")
    edit.add_argument("--take", metavar="WORDS", help="of rotation,scale,translation,expression; default: all four")
    for name, text in _SLIDERS.items():
        edit.add_argument(f"--{name}", type=float, metavar="F", help=text)
    edit.add_argument(
        "--expression",
        metavar="neutral|FILE|VIDEO@SECONDS|code:NUMBERS",
        help=f"neutral, or that of a photo, a motion file, or a code of the expression VAE; {MOMENT}",
    )
    add_set(edit, "move the expression along a named direction")
    edit.add_argument("--at", metavar="START:END", help="seconds in which the values hold, eased at both ends; default: all")
    edit.add_argument("--mode", default="absolute", metavar="MODE", help="absolute (default), relative, or rotation=relative,...")
    edit.add_argument("--turntable", action="store_true", help="yaw, pitch and roll sweeps; with a picture as OUT a grid")
    edit.add_argument("--no-crop", action="store_true", help="the pictures already are face crops")
    add_quality(edit)
    add_model(edit)
    add_common(edit)
    edit.set_defaults(run=_edit, files=_edit_files)

    canonical = add_command(
        commands,
        "canonical",
        "photos above their canonical faces: frontal, centred, neutral",
        examples="""
            me.jpg you.jpg -o canonical.png
        """,
    )
    canonical.add_argument("sources", type=Path, nargs="+", metavar="SOURCE", help=PHOTO)
    add_output(canonical, "OUT.png", f"the sheet: {PICTURES}")
    canonical.add_argument("--no-crop", action="store_true", help="the pictures already are face crops")
    add_model(canonical)
    add_common(canonical)
    canonical.set_defaults(run=_canonical, files=lambda o: Files([*o.sources, *model_files(o.model)], [o.output]))


def add_quality(parser: argparse.ArgumentParser) -> None:
    """The options that every command with a driving video shares."""
    parser.add_argument("--smooth", type=float, default=0.5, metavar="F", help="against jitter: 0 off to 1 strong; default: 0.5")
    parser.add_argument("--lips", type=float, default=1.0, metavar="F", help="factor on the movement of the lips; default: 1")
    parser.add_argument("--eyes", type=float, default=1.0, metavar="F", help="factor on that of lids and irises; default: 1")


def amplitude_of(options: argparse.Namespace) -> Amplitude | None:
    """The amplitude that ``--lips`` and ``--eyes`` ask for."""
    from ..edit import Amplitude

    amplitude = Amplitude(lips=options.lips, eyes=options.eyes).limited(unclipped=getattr(options, "unclipped", False))
    return None if amplitude == Amplitude() else amplitude


def _edit_files(options: argparse.Namespace) -> Files:
    reads = named_files(options.source, options.driving, options.expression)
    return Files([*reads, *model_files(options.model)], [options.output])


def _edit(options: argparse.Namespace) -> None:
    from ..animate import Animator
    from ..edit import parse_attributes, take, turntable
    from ..expressions import ExpressionSpace

    values = set_values(options)
    attributes = parse_attributes(options.take or "rotation,scale,translation,expression")
    is_clip = _check_edit(options)
    with range_warnings():
        amplitude, edit, span = amplitude_of(options), _sliders(options), _span(options.at)
    animator = Animator.from_pretrained(options.model, device=options.device, quiet=options.quiet)
    motion = set_source(animator, options.source, options)
    if options.driving is not None:
        motion = take(motion, _driving(animator, options), attributes)
    offset = ExpressionSpace.load(options.model, model=animator.model).offset(values) if values else None
    motion = replace(edit, expression=_expression(animator, options), offset=offset).apply(motion, span=span)
    if options.turntable and is_video(options.output):
        motion = turntable(motion)
    if is_video(options.output):
        sound = options.driving if is_clip and not _is_motion_file(options.driving) else None
        animator.write(motion, options.output, sound=sound, amplitude=amplitude)
        say(options, f"{options.output}: {len(motion)} frames.")
    elif options.turntable:
        write_picture(options, _grid(animator, motion, amplitude))
    else:
        write_picture(options, next(animator.render(motion, room=True, amplitude=amplitude)))


def _grid(animator: Animator, motion: Motion, amplitude: Amplitude | None) -> Array:
    from ..edit import attribute_grid
    from ..media.image import contact_sheet

    return contact_sheet([list(animator.render(row, paste_back=False, amplitude=amplitude)) for row in attribute_grid(motion)])


def _canonical(options: argparse.Namespace) -> None:
    from ..animate import Animator
    from ..edit import canonical_motion
    from ..media.crop import crop
    from ..media.files import check_input
    from ..media.image import contact_sheet

    for path in options.sources:
        check_input(path)
    check_picture_or_video(options.output)
    if is_video(options.output):
        raise MediaError(f"{options.output}: canonical faces are a picture; name one, such as .png.")
    animator = Animator.from_pretrained(options.model, device=options.device, quiet=options.quiet)
    photos, faces = [], []
    for path in options.sources:
        motion = canonical_motion(set_source(animator, path, options))
        assert animator.source is not None
        photos.append(crop(animator.source.image, animator.source.box, size=animator.size))
        faces.append(next(animator.render(motion, paste_back=False)))
    write_picture(options, contact_sheet([photos, faces]))


def _check_edit(options: argparse.Namespace) -> bool:
    """Whether the driver is a clip; raises before the work what would raise after it."""
    from ..animate import parse_modes
    from ..media.files import check_input

    if options.driving is None and (options.take is not None or options.mode != "absolute"):
        raise ConfigError("--take and --mode say what to take from a driver; name it with --from.")
    relative = "relative" in parse_modes(options.mode).values()
    check_input(options.source)
    check_picture_or_video(options.output)
    is_clip = options.driving is not None and _is_clip(check_input(options.driving))
    if not is_clip and relative:
        raise ConfigError(f"{options.driving} is one picture, and relative motion needs a clip; leave out --mode.")
    if not is_clip and options.at is not None:
        raise ConfigError("--at is a time range of a clip; name a driving video with --from.")
    if is_clip and options.turntable:
        raise ConfigError("A turntable shows one pose; take an expression with --expression VIDEO@SECONDS, not a clip.")
    if not options.turntable and is_clip != is_video(options.output):
        kind = "a video: name one, such as OUT.mp4" if is_clip else "a picture: name one, such as OUT.png"
        raise MediaError(f"{options.output}: what comes out is {kind}.")
    if not _changes(options):
        raise ConfigError(
            "Nothing to change: name a driver with --from, or set --yaw, --pitch, --roll, --scale, --tx, --ty, --intensity, "
            "--expression, --set, --lips or --eyes, or ask for a --turntable."
        )
    return is_clip


def _changes(options: argparse.Namespace) -> bool:
    """Whether anything is asked for that makes the picture another than the photo."""
    given = [options.driving, options.expression, *(getattr(options, name) for name in _SLIDERS)]
    return bool(
        options.set or options.turntable or options.lips != 1 or options.eyes != 1 or any(value is not None for value in given)
    )


def _is_clip(path: Path) -> bool:
    """Whether the file is a video or a motion of several frames, not a picture or a single motion."""
    from ..media.video import VideoReader
    from ..motion import Motion

    if _is_motion_file(path):
        return len(Motion.load(path)) > 1
    try:
        VideoReader(path)
    except MediaError:
        return False
    return True


def _is_motion_file(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _driving(animator: Animator, options: argparse.Namespace) -> Motion:
    """The smoothed motion to take from."""
    from ..animate import parse_modes
    from ..smooth import smooth

    tracked = animator.motion_from(options.driving, crop=not options.no_crop)
    say_driver(options, options.driving, tracked.faces, held=tracked.held)
    motion, modes = smooth(tracked.motion, options.smooth), parse_modes(options.mode)
    return animator.relative(motion, mode=modes) if "relative" in modes.values() else motion


def _sliders(options: argparse.Namespace) -> Edit:
    """What was set by number, within limits; the expression is read later, when there is a model."""
    from ..edit import Edit

    if options.expression == "neutral" and options.intensity is not None:
        raise ConfigError("A neutral expression has no intensity: leave out --expression or --intensity.")
    if options.expression == "neutral" and options.set:
        raise ConfigError("A neutral expression doesn't move along a direction: leave out --expression or --set.")
    values: dict[str, Any] = {name: getattr(options, name) for name in _SLIDERS}
    return Edit(**values).limited(unclipped=options.unclipped)


def _expression(animator: Animator, options: argparse.Namespace) -> Any:
    """``neutral``, None, or the motion whose expression is wanted."""
    text = options.expression
    if text is None or text == "neutral":
        return text
    return single_motion(animator, text, options, option="--expression")


def _span(text: str | None) -> Span | None:
    from ..edit import Span

    if text is None:
        return None
    match = re.fullmatch(r"([^:]*):([^:]*)", text)
    if match is None or text == ":":
        raise ConfigError(f"The time range {text!r} isn't understood: write it as START:END in seconds, such as 1.5:3.")
    start, end = (None if not part else seconds(part, option="--at") for part in match.groups())
    return Span(start=start, end=end)
