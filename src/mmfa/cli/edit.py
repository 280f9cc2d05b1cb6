"""``mmfa edit`` and ``mmfa canonical``: motion attributes moved one by one, canonical faces."""

from __future__ import annotations

from pathlib import Path

from .common import (
    DRIVER,
    MOMENT,
    PHOTO,
    PICTURES,
    VIDEOS,
    Commands,
    add_command,
    add_crop,
    add_model,
    add_output,
    add_photo,
    add_quality,
    add_set,
)

_SLIDERS = {
    "yaw": "degrees, positive turns the nose to the left of the picture",
    "pitch": "degrees, positive lowers the nose",
    "roll": "degrees, positive turns clockwise",
    "scale": "factor on the size",
    "tx": "shift to the right, in fractions of the crop's side",
    "ty": "shift down, in fractions of the crop's side",
    "intensity": "strength of the expression: 0 neutral, 1 as seen, up to 1.5",
}


def add_parser(commands: Commands) -> None:
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
    add_crop(edit)
    add_quality(edit)
    add_model(edit)
    add_photo(edit)
    edit.set_defaults(request="edit")

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
    add_crop(canonical)
    add_model(canonical)
    add_photo(canonical)
    canonical.set_defaults(request="canonical")
