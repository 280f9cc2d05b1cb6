"""The cases: what is asked of the program, and what it must answer. Data only; `test_corpus` runs them.

In words, ``{corpus}`` is the folder of `files.make_corpus`, ``{out}`` the case's own folder with a slash at its end, ``{report}``
a report of ``mmfa evaluate``, ``{core}`` the number of a CPU core that may be used and ``{PATH}`` the search path as it is.
"""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Expect = Literal["refuse", "work", "either", "end"]
"""refuse: status 2, one sentence, no file. work: status 0 and an output that is what its suffix says. either: one of the two.
end: neither finished nor refused, but ended by a signal or by a stream that takes no more words; no file is left."""
Moment = Literal["start", "track", "render"]
"""When a signal comes: while torch is loaded, while the driving video is read, when the first bytes of the output are written."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """argv: words, separated by spaces where there are none in them. says: a pattern that must be found in what is said.

    status: the exit status, where `expect` doesn't say it. cwd: the working folder. copied: a file of the corpus that lies in
    the case's folder as ``copy`` with its suffix. old: the output is there before, made by somebody else. scene: what else has
    to be there (`test_corpus.SCENES`). measured: what was measured before the refusal may stay in the cache. seconds: the time
    limit.

    In a process of its own (`process`): shell: a line of bash around the command ``"$@"``. env: None takes a variable away.
    signal, moment: what ends it, and when. megabytes: the most memory it may hold. file_bytes: the longest file it may write.
    """

    name: str
    argv: str | Sequence[str]
    expect: Expect = "refuse"
    says: str = ""
    status: int | None = None
    cwd: str = "{corpus}"
    copied: str = ""
    old: bool = False
    scene: str = ""
    measured: bool = False
    seconds: float = 60
    slow: bool = False
    process: bool = False
    shell: str = ""
    env: Mapping[str, str | None] = field(default_factory=dict)
    signal: int | None = None
    moment: Moment = "render"
    megabytes: int = 1200
    file_bytes: int | None = None


_EDIT = "-o {out}x.png --yaw 5"
_EVALUATE = "evaluate {} -o {{out}}report --split {} --stride 4"
_ANIMATE_MOTION = "animate photo.png good.safetensors -o {out}x.mp4"
_ANIMATE_VIDEO = "animate photo.png talk.mp4 -o {out}x.mp4"
_RENDER_LONG = "animate photo.png m_long.safetensors -o {out}x.mp4"

SOURCES = [
    *(
        Case(name=f"source {name}", argv=f"edit {name} {_EDIT}", says=name)
        for name in (
            "missing.jpg", "folder.jpg", "text.jpg", "zero.jpg", "trunc.jpg", "trunc.png", "pixel.png", "twelve.png",
            "iphone.heic", "noface.png", "talk.mp4", "good.safetensors",
        )
    ),
    *(
        Case(name=f"source {name}", argv=f"edit {name} {_EDIT}", expect="work")
        for name in (
            "sixteen.png", "cmyk.jpg", "grey.jpg", "palette.png", "alpha.png", "turned.jpg", "moving.webp", "moving.gif",
            "odd.png", "icc.jpg", "cut.png", "panorama.jpg",
        )
    ),
    *(Case(name=f"source {name}", argv=f"edit {name} {_EDIT}", expect="either") for name in ("photo.avif", "flipped.jpg")),
    Case(name="source of 100 megapixels", argv=f"edit huge.jpg {_EDIT}", expect="work", process=True),
    Case(
        name="source of 361 megapixels in 44 kB",
        argv=f"edit large.png {_EDIT}",
        says="large.png",
        process=True,
        megabytes=1500,
    ),
    Case(name="source of 3600 megapixels", argv=f"edit bomb.png {_EDIT}", says="bomb.png.*too large", process=True),
    Case(name="five faces", argv=f"edit five.jpg {_EDIT}", expect="work", says="5 faces"),
    Case(name="a face that is not there", argv=f"edit five.jpg {_EDIT} --face 7", says="five.jpg"),
    Case(name="face -1", argv=f"edit photo.png {_EDIT} --face -1", says="--face"),
    Case(
        name="PostScript named .jpg starts no Ghostscript",
        argv=f"edit script.jpg {_EDIT}",
        says="script.jpg",
        scene="ghostscript",
    ),
    Case(name="source is a device", argv=f"edit /dev/zero {_EDIT}", says="/dev/zero"),
    Case(name="source is -", argv=f"edit - {_EDIT}"),
    Case(
        name="canonical with one bad photo of two", argv="canonical photo.png noface.png -o {out}x.png", says="noface.png"
    ),
]  # fmt: skip

DRIVERS = [
    *(
        Case(name=f"driver {name}", argv=f"animate photo.png {name} -o {{out}}x.mp4", says=name)
        for name in (
            "missing.mp4", "text.mp4", "zero.mp4", "trunc.mp4", "sound.mp4", "blank.mp4", "photo.png", "list.mp4", "net.mp4",
            "concat.mp4", "data",
        )
    ),
    *(
        Case(name=f"driver {name}", argv=f"animate photo.png {name} -o {{out}}x.mp4", expect="work")
        for name in (
            "one.mp4", "trunc_fast.mp4", "midway.mp4", "late.mp4", "oddsize.mp4", "thousand.mkv", "norate.h264",
            "zerorate.avi", "vfr.mp4", "ten.mp4", "pcm.mov", "phone.mp4", "moving.gif",
        )
    ),
    *(
        Case(name=f"driver {name}", argv=f"animate photo.png {name} -o {{out}}x.mp4", expect="either")
        for name in (
            "flips0.mp4", "flips1.mp4", "flips2.mp4", "flips3.mp4", "flips4.mp4", "header0.mp4", "header1.mp4", "header2.mp4",
            "moving.webp",
        )
    ),
    Case(
        name="driver of 8k",
        argv="animate photo.png eight.mp4 -o {out}x.mp4",
        expect="work",
        process=True,
        slow=True,
        megabytes=2000,
    ),
    Case(name="source and driver swapped", argv="animate talk.mp4 photo.png -o {out}x.mp4"),
    Case(name="a driver's frame after its end", argv=f"edit photo.png {_EDIT} --expression talk.mp4@99", says="99"),
    Case(name="a driver's frame before its start", argv=f"edit photo.png {_EDIT} --expression talk.mp4@-1", says="-1"),
]  # fmt: skip

MOTIONS = [
    *(
        Case(name=f"motion {name}", argv=f"animate photo.png m_{name}.safetensors -o {{out}}x.mp4", says=f"m_{name}.safetensors")
        for name in (
            "trunc", "text", "hugeheader", "bigheader", "giant", "nan", "inf", "version", "foreign", "nanrate", "textrate",
            "minus", "skew", "mirror", "lacks", "shape",
        )
    ),
    Case(name="motion width", argv="animate photo.png m_width.safetensors -o {out}x.mp4", says="77"),
    Case(name="motion empty", argv="animate photo.png m_empty.safetensors -o {out}x.mp4", says="frames"),
    *(
        Case(name=f"motion {name}", argv=f"animate photo.png m_{name}.safetensors -o {{out}}x.mp4", expect="either")
        for name in ("slow", "slower", "far", "tiny", "large", "strong")
    ),
    Case(name="motion of no frame, from", argv="edit photo.png -o {out}x.mp4 --from m_empty.safetensors"),
]  # fmt: skip

MODELS = [
    *(
        Case(name=f"model {name}", argv=f"edit photo.png {_EDIT} --model w_{name}", says=says)
        for name, says in (
            ("trunc", "w_trunc"), ("flip", "w_flip"), ("version", "99"), ("kind", "other"), ("noconfig", "config.json"),
            ("noweights", "model.safetensors"), ("json", "w_json"), ("binary", "w_binary"), ("list", "w_list"),
            ("deep", "w_deep"), ("empty", "config.json"), ("nan", "w_nan"),
        )
    ),
    Case(name="model params", argv=f"edit photo.png {_EDIT} --model w_params", says="w_params", process=True),
    *(
        Case(name=f"model {name}", argv=f"sample photo.png -o {{out}}x.png --n 1 --model w_{name}", says=says)
        for name, says in (("novae", "vae.safetensors"), ("vae", "w_vae"))
    ),
    Case(name="model unknown", argv=f"edit photo.png {_EDIT} --model nosuch", says="nosuch"),
    Case(name="model ../lite", argv=f"edit photo.png {_EDIT} --model ../../lite", says=r"\.\./\.\./lite"),
    Case(name="info of nothing", argv="info w_empty", says="w_empty"),
]  # fmt: skip

OPTIONS = [
    *(
        Case(name=f"edit {words}", argv=f"edit photo.png -o {{out}}x.png {words}")
        for words in (
            "--yaw nan", "--yaw 1e9", "--intensity 1e9", "--intensity -1", "--scale 0", "--tx inf", "--set nosuch=1",
            "--set smile=nan", "--set smile", "--smooth x", "--take nose", "--mode sideways", "--expression code:1,x",
            "--expression code:99", "--lips nan", "--at 0:1",
        )
    ),
    Case(name="edit --device cuda", argv=f"edit photo.png {_EDIT} --device cuda", expect="either"),
    *(
        Case(name=f"edit --from {words}", argv=f"edit photo.png -o {{out}}x.mp4 --from talk.mp4 {words}")
        for words in (
            "--at 5:1", "--at x", "--at 1:2:3", "--smooth 7", "--smooth nan", "--take nose", "--mode rotation=often",
        )
    ),
    *(
        Case(name=f"animate {words}", argv=f"{_ANIMATE_MOTION} {words}")
        for words in (
            "--anchor 999999", "--anchor -1", "--anchor often", "--smooth 7", "--mode sideways", "--lips -3", "--eyes nan",
        )
    ),
    Case(
        name="interpolate --steps 0",
        argv="interpolate photo.png --from source --to neutral --steps 0 -o {out}x.png",
        says="--steps",
    ),
    Case(name="sample --temperature nan", argv="sample photo.png -o {out}x.png --n 1 --temperature nan", says="nan"),
    Case(name="sample --seconds 1e9", argv="sample photo.png -o {out}x.mp4 --seconds 1e9", says="--seconds", process=True),
    Case(
        name="sample --seconds 3600 without an hour's square of memory",
        argv="sample photo.png -o {out}x.mp4 --seconds 3600",
        expect="end",
        status=130,
        process=True,
        slow=True,
        signal=signal.SIGINT,
    ),
]  # fmt: skip

PLACES = [
    *(
        Case(name=f"output in {name}", argv=["edit", "photo.png", "-o", place, "--yaw", "5"])
        for name, place in (
            ("missing folder", "nowhere/x.png"), ("/proc", "/proc/x.png"), ("/sys", "/sys/x.png"), ("a device", "/dev/full"),
            ("a file as folder", "photo.jpg/x.png"), ("a name too long", "{out}" + "x" * 300 + ".png"),
            ("unknown suffix", "{out}x.xyz"), ("no suffix", "{out}x"),
        )
    ),
    Case(name="output video of unknown suffix", argv="animate photo.png good.safetensors -o {out}x.wmv", says="suffix"),
    Case(name="output is a folder", argv="edit photo.png -o folder.jpg --yaw 5", says="folder"),
    Case(name="output is the photo", argv="edit {out}copy.png -o {out}copy.png --yaw 5", says="copy.png", copied="photo.png"),
    Case(
        name="output is the driver", argv="animate photo.png {out}copy.mp4 -o {out}copy.mp4", says="copy.mp4", copied="talk.mp4"
    ),
    Case(
        name="output is a link: the target is replaced, the link kept",
        argv=f"edit photo.png {_EDIT}",
        expect="work",
        says="(?i)replace",
        scene="link",
    ),
    Case(
        name="unicode and spaces",
        argv=["animate", "é photo — me.png", "Ünï çødé 视频 (1) ' & $x.mp4", "-o", "{out}Ö üt.mp4"],
        expect="work",
    ),
    Case(name="name with a leading dash", argv="edit -o {out}x.png --yaw 5 -- -dash.png", expect="work"),
    Case(name="name with an @", argv="edit photo.png -o {out}x.png --expression a@b.png", expect="work"),
    Case(
        name="name that is no UTF-8",
        argv=["edit", "bad\udcff.png", "-o", "{out}x.png", "--yaw", "5"],
        expect="work",
        scene="not utf-8",
        process=True,
    ),
    Case(
        name="no such name that is no UTF-8",
        argv=["edit", "no\udcff.png", "-o", "{out}x.png", "--yaw", "5"],
        says="does not exist",
        process=True,
    ),
    Case(
        name="output name that is no UTF-8",
        argv=["motion", "talk.mp4", "-o", "{out}x\udcff.safetensors"],
        expect="either",
        scene="not utf-8",
        process=True,
    ),
    *(
        Case(name=f"disk full, {name}", argv=argv, says="disk is full|space", scene="small disk", process=True)
        for name, argv in (
            ("video", "animate photo.png talk.mp4 -o {out}small/x.mp4"),
            ("picture", "edit photo.png -o {out}small/x.png --yaw 5"),
            ("motion", "motion fast.mp4 -o {out}small/x.safetensors"),
        )
    ),
    Case(name="file size limit", argv=f"edit photo.png {_EDIT}", says=r"x\.png", process=True, file_bytes=20_000),
]  # fmt: skip

ENDS = [
    *(
        Case(
            name=f"{name} while rendering: old output intact, nothing left",
            argv=_RENDER_LONG,
            expect="end",
            old=True,
            status=status,
            signal=number,
            process=True,
        )
        for name, number, status in (
            ("SIGINT", signal.SIGINT, 130),
            ("SIGTERM", signal.SIGTERM, 143),
            ("SIGHUP", signal.SIGHUP, 129),
        )
    ),
    Case(
        name="SIGINT while starting",
        argv=_RENDER_LONG,
        expect="end",
        old=True,
        status=130,
        signal=signal.SIGINT,
        moment="start",
        process=True,
    ),
    Case(
        name="SIGINT while tracking",
        argv="animate photo.png long.mp4 -o {out}x.mp4",
        expect="end",
        old=True,
        status=130,
        signal=signal.SIGINT,
        moment="track",
        process=True,
    ),
    Case(
        name="SIGKILL while rendering: old output intact",
        argv=_RENDER_LONG,
        expect="end",
        old=True,
        status=-signal.SIGKILL,
        signal=signal.SIGKILL,
        process=True,
    ),
]

SURROUNDINGS = [
    Case(name="stdin closed", argv=_ANIMATE_MOTION, expect="work", process=True, shell='exec "$@" <&-'),
    Case(name="stdout closed", argv=_ANIMATE_MOTION, expect="work", process=True, shell='exec "$@" >&-'),
    Case(name="stderr closed", argv=_ANIMATE_VIDEO, expect="work", process=True, shell='exec "$@" 2>&-'),
    Case(name="info, stdout closed", argv="info lite", expect="end", process=True, shell='exec "$@" >&-'),
    Case(name="info, nobody reads", argv="info lite", expect="end", process=True, shell='"$@" | true'),
    Case(name="info, stdout full", argv="info lite", expect="end", process=True, shell='exec "$@" >/dev/full'),
    Case(name="no HOME", argv=_ANIMATE_MOTION, expect="work", process=True, env={"HOME": None}),
    Case(name="HOME not writable", argv=_ANIMATE_MOTION, expect="work", process=True, env={"HOME": "/proc"}),
    Case(name="TMPDIR not writable", argv=_ANIMATE_MOTION, expect="work", process=True, env={"TMPDIR": "/proc"}),
    Case(name="PYTHONWARNINGS=error", argv=_ANIMATE_VIDEO, expect="work", process=True, env={"PYTHONWARNINGS": "error"}),
    Case(
        name="LC_ALL=C",
        argv=["edit", "é photo — me.png", "-o", "{out}ü.png", "--yaw", "5"],
        expect="work",
        process=True,
        env={"LC_ALL": "C", "LANG": "C"},
    ),
    Case(
        name="a terminal of ASCII",
        argv="evaluate --help",
        expect="work",
        says="REPORT_FOLDER",
        process=True,
        env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
    ),
    Case(name="one core", argv=_ANIMATE_MOTION, expect="work", process=True, shell='exec taskset -c {core} "$@"'),
    Case(name="another folder", argv=f"edit {{corpus}}/photo.png {_EDIT}", expect="work", cwd="/"),
    Case(
        name="relative output in the folder one is in",
        argv="edit {corpus}/photo.png -o x.png --yaw 5",
        expect="work",
        cwd="{out}",
    ),
    Case(
        name="python -O", argv="info lite", expect="work", says="generator", process=True, slow=True, env={"PYTHONOPTIMIZE": "2"}
    ),
]

CONFIGS = [
    *(
        Case(name=f"train {name}.yaml", argv=f"train {{corpus}}/c_{name}.yaml", says=says, cwd="{out}")
        for name, says in (
            ("unknown", "learning_rat"), ("object", "c_object"), ("type", "steps"), ("list", "c_list"), ("text", "c_text"),
            ("binary", "c_binary"), ("lacks", "data"), ("nodata", "nowhere"), ("minus", "steps|batch"), ("nan", "learning_rate"),
        )
    ),
    *(
        Case(name=f"train {name}.yaml", argv=f"train {{corpus}}/c_{name}.yaml", cwd="{out}", seconds=30, process=True)
        for name in ("bomb", "deep")
    ),
    Case(name="train: no such file", argv="train nosuch.yaml", says="nosuch.yaml"),
    Case(name="train-vae unknown.yaml", argv="train-vae c_unknown.yaml", says="learning_rat|c_unknown"),
]  # fmt: skip

DATA_SETS = [
    Case(
        name="evaluate good predictions",
        argv=f"{_EVALUATE.format('data', 'train')} --predictions p_good",
        expect="work",
        seconds=90,
    ),
    *(
        Case(
            name=f"evaluate predictions {name}",
            argv=f"{_EVALUATE.format('data', 'train')} --predictions p_{name}",
            says=says,
            measured=True,
            seconds=90,
        )
        for name, says in (
            ("lacks", "bob__one"), ("extra", "carol__one"), ("size", "200"), ("frames", "__one"), ("short", "__one"),
        )
    ),
    *(
        Case(
            name=f"evaluate pairs {name}",
            argv=f"{_EVALUATE.format('data', 'train')} --copy-source --protocol cross --pairs pairs_{name}.csv",
            says=f"pairs_{name}|nobody",
        )
        for name in ("name", "head", "text")
    ),
    *(
        Case(
            name=f"evaluate {name}",
            argv=f"evaluate {name} -o {{out}}report --split {split} --copy-source",
            says=name,
            process=name == "d_sparse",
        )
        for name, split in (
            ("nodata", "train"), ("nonsquare", "train"), ("junk", "train"), ("d_escape", "val"), ("d_damaged", "val"),
            ("d_sparse", "val"), ("d_deep", "val"), ("d_listed", "val"), ("nosuch", "train"), ("photo.png", "train"),
        )
    ),
    *(
        Case(name=f"evaluate {words}", argv=f"{_EVALUATE.format('data', 'train')} --copy-source {words}", says=says, seconds=90)
        for words, says in (
            ("--stride 0", "stride"), ("--workers 0", "workers"), ("--rank nosuch", "nosuch"), ("--split nosuch", "nosuch"),
            ("--pairs pairs_good.csv", "pairs"), ("--leakage", "leakage"),
        )
    ),
    Case(name="evaluate without -o", argv="evaluate data --split train", says="-o"),
    *(
        Case(name=f"prepare {name}", argv=f"prepare {name} -o {{out}}set", says=name)
        for name in ("nodata", "junk", "nosuch", "photo.jpg/x", "text.jpg")
    ),
    *(
        Case(name=f"prepare {words}", argv=f"prepare talk.mp4 -o {{out}}set {words}")
        for words in ("--fps 0", "--fps nan", "--min-seconds nan", "--val 2", "--workers 0", "--shards nan", "--min-face -1")
    ),
    Case(name="prepare into a file", argv="prepare talk.mp4 -o photo.png", says="photo.png"),
    Case(name="prepare into /proc", argv="prepare talk.mp4 -o /proc/set", says="/proc/set"),
    *(
        Case(name=f"compare {name}", argv=f"compare {name} {{report}}", says=name)
        for name in ("r_deep.json", "r_text.json", "r_half.json", "nosuch.json", "data")
    ),
    Case(
        name="compare in a terminal of cp1252 (Windows)",
        argv="compare {report} {report}",
        expect="work",
        process=True,
        env={"PYTHONIOENCODING": "cp1252"},
    ),
]  # fmt: skip

USAGE = [
    Case(name="no command", argv="", says="COMMAND"),
    Case(name="unknown command", argv="anmate a b", says="anmate"),
    Case(name="no output named", argv="animate photo.png talk.mp4", says="output"),
]

CASES = [
    *SOURCES, *DRIVERS, *MOTIONS, *MODELS, *OPTIONS, *PLACES, *ENDS, *SURROUNDINGS, *CONFIGS, *DATA_SETS, *USAGE,
]  # fmt: skip
