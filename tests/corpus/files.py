"""The corpus: bad and odd files, made from the demo's photo and video. The same on every machine: all noise is drawn by seed."""

import contextlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmfa.media.image import Array

from .writers import (
    turn_display_matrix,
    write_avi_without_rate,
    write_black_png,
    write_motion,
    write_prepared,
    write_safetensors_header,
    write_video,
)

TALK = 12
"""Frames of the corpus's good driving video, at 25 frames per second."""
NOT_UTF8 = b"bad\xff.png"
"""A name that only some file systems take."""
_DEEP = "[" * 100_000


def make_corpus(root: Path, *, portrait: Path, carphone: Sequence[Array], model: Path) -> None:
    """Fill the empty folder `root`. carphone: frames (H,W,3) uint8, at least 25. model: the folder of a good model."""
    photo = Image.open(portrait).convert("RGB")
    talk = list(carphone[:25])
    _make_pictures(root, photo)
    _make_videos(root, photo, talk)
    _make_names(root)
    _make_motions(root)
    _make_models(root, model)
    _make_configs(root)
    _make_data_sets(root, photo, talk)
    _make_reports(root)


def _make_pictures(root: Path, photo: Image.Image) -> None:
    photo.save(root / "photo.png")
    photo.save(root / "photo.jpg", quality=95)
    jpeg, png = (root / "photo.jpg").read_bytes(), (root / "photo.png").read_bytes()
    (root / "text.jpg").write_text("This is no picture.\n" * 50)
    (root / "zero.jpg").write_bytes(b"")
    (root / "folder.jpg").mkdir()
    (root / "trunc.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (root / "trunc.png").write_bytes(png[: len(png) // 2])
    (root / "flipped.jpg").write_bytes(_damaged(jpeg, seed=1, start=600, end=len(jpeg), count=60))
    Image.new("RGB", (1, 1), "red").save(root / "pixel.png")
    photo.resize((12, 12)).save(root / "twelve.png")
    huge = Image.new("RGB", (10_000, 10_000), (90, 100, 110))
    huge.paste(photo.resize((6000, 6000)), (2000, 2000))
    huge.save(root / "huge.jpg", quality=70)
    write_black_png(root / "bomb.png", 60_000, 60_000)
    write_black_png(root / "large.png", 19_000, 19_000)
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(root / "sixteen.png")
    photo.convert("CMYK").save(root / "cmyk.jpg")
    photo.convert("L").save(root / "grey.jpg")
    clear = photo.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    clear.quantize(128).save(root / "palette.png")
    clear.save(root / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.rotate(90, expand=True).save(root / "turned.jpg", exif=exif)
    small = photo.resize((256, 256))
    for name in ("moving.webp", "moving.gif"):
        small.save(root / name, save_all=True, append_images=[small.rotate(4), small.rotate(8)], duration=100)
    # What an iPhone calls a HEIC: the right first box, and a codec that Pillow lacks.
    (root / "iphone.heic").write_bytes(_boxed(b"heic"))
    try:
        photo.save(root / "photo.avif")
    except (KeyError, OSError, ValueError):  # an older Pillow
        (root / "photo.avif").write_bytes(_boxed(b"avif"))
    noise = np.random.default_rng(3).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "noface.png")
    face = photo.crop((100, 0, 356, 256))
    five = Image.new("RGB", (1500, 360), (100, 110, 100))
    for number, side in enumerate((300, 280, 260, 240, 220)):
        five.paste(face.resize((side, side)), (number * 300, 20))
    five.save(root / "five.jpg", quality=92)
    wide = Image.new("RGB", (6000, 500), (100, 120, 140))
    wide.paste(face.resize((400, 400)), (5000, 60))
    wide.save(root / "panorama.jpg", quality=90)
    photo.resize((257, 255)).save(root / "odd.png")
    photo.crop((100, 0, 256, 256)).resize((312, 512)).save(root / "cut.png")
    # PostScript under a picture's name: Pillow would start Ghostscript for it.
    (root / "script.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 200\n%%EndComments\n(photo) show\nshowpage\n%%EOF\n"
    )
    photo.save(root / "icc.jpg", icc_profile=b"not a profile at all" * 20)


def _make_videos(root: Path, photo: Image.Image, talk: list[Array]) -> None:
    write_video(root / "talk.mp4", talk[:TALK], sound="aac")
    good = (root / "talk.mp4").read_bytes()
    (root / "text.mp4").write_text("no video\n" * 100)
    (root / "zero.mp4").write_bytes(b"")
    (root / "trunc.mp4").write_bytes(good[: len(good) // 2])
    write_video(root / "fast.mp4", talk[:16], options={"movflags": "faststart"})
    fast = (root / "fast.mp4").read_bytes()
    (root / "trunc_fast.mp4").write_bytes(fast[: int(len(fast) * 0.7)])
    media = fast.find(b"mdat")
    third = (len(fast) - media - 8) // 3
    for seed in range(5):
        start = media + 8 + third
        (root / f"flips{seed}.mp4").write_bytes(_damaged(fast, seed=seed, start=start, end=start + third, count=20))
    for seed in range(3):
        (root / f"header{seed}.mp4").write_bytes(_damaged(fast, seed=100 + seed, start=0, end=media, count=30))
    write_video(root / "sound.mp4", [], sound="aac")
    write_video(root / "one.mp4", talk[:1])
    blank = [np.full_like(talk[0], 90)] * 4
    write_video(root / "blank.mp4", blank * 3)
    write_video(root / "midway.mp4", talk[:5] + blank + talk[9:12])
    write_video(root / "late.mp4", blank + talk[4:9])
    write_video(root / "oddsize.mp4", [f[:143, :175] for f in talk[:5]], codec="ffv1", pixels="bgr0", container="matroska")
    eight = np.zeros((4320, 7680, 3), np.uint8)
    eight[1000:3000, 2500:4500] = np.asarray(photo.resize((2000, 2000)))
    write_video(root / "eight.mp4", [eight, eight], codec="mpeg4")
    write_video(root / "thousand.mkv", talk[:6], fps=1000, times=range(6))
    write_video(root / "norate.h264", talk[:6], container="h264")
    write_avi_without_rate(root / "zerorate.avi", talk[:6])
    write_video(root / "vfr.mp4", talk[:8], times=[0, 20, 90, 110, 200, 240, 300, 390])
    write_video(root / "ten.mp4", talk[:5], pixels="yuv420p10le")
    write_video(root / "pcm.mov", talk[:6], sound="pcm_s16le")
    write_video(root / "stored.mp4", [np.rot90(f) for f in talk[:6]])
    turn_display_matrix(root / "stored.mp4", root / "phone.mp4")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    (root / "list.mp4").write_text(playlist.format("fast.mp4"))
    (root / "net.mp4").write_text(playlist.format("http://127.0.0.1:9/x.ts"))
    (root / "concat.mp4").write_text("ffconcat version 1.0\nfile fast.mp4\n")
    write_video(root / "long.mp4", (talk + talk[::-1])[:48] * 6)


def _make_names(root: Path) -> None:
    shutil.copy(root / "talk.mp4", root / "Ünï çødé 视频 (1) ' & $x.mp4")
    for name in ("é photo — me.png", "-dash.png", "a@b.png"):
        shutil.copy(root / "photo.png", root / name)
    with contextlib.suppress(OSError):  # some file systems take UTF-8 alone; the case says so and is skipped
        shutil.copy(root / "photo.png", root / os.fsdecode(NOT_UTF8))


def _make_motions(root: Path) -> None:
    def write(name: str, **options: Any) -> None:
        write_motion(root / f"m_{name}.safetensors", **options)

    write_motion(root / "good.safetensors")
    good = (root / "good.safetensors").read_bytes()
    sway = 0.1 * np.sin(np.arange(3000) / 3)
    write("long", frames=3000, translation=np.stack([sway, 0 * sway, 0 * sway], 1))
    (root / "m_trunc.safetensors").write_bytes(good[: len(good) // 2])
    (root / "m_text.safetensors").write_text("not tensors\n" * 20)
    (root / "m_hugeheader.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + good[8:])
    (root / "m_bigheader.safetensors").write_bytes(struct.pack("<Q", 90_000_000) + b" " * 1000)
    giant = {"dtype": "F32", "shape": [1 << 40, 3, 3], "data_offsets": [0, (1 << 40) * 36]}
    about = {"format": "mmfa-motion", "version": "2"}
    write_safetensors_header(root / "m_giant.safetensors", {"rotation": giant, "__metadata__": about}, bytes(100))
    write("nan", scale=np.full((5, 1), np.nan))
    write("inf", translation=np.full((5, 3), np.inf))
    write("width", width=77)
    write("version", version="99")
    write("foreign", kind="other")
    write("empty", frames=0)
    write("slow", fps="1e-9")
    write("slower", fps="0.001")
    write("nanrate", fps="nan")
    write("textrate", fps="often")
    write("minus", scale=np.full((5, 1), -0.5))
    write("skew", rotation=np.tile(np.diag([1.0, 2.0, 1.0]), (5, 1, 1)))
    write("mirror", rotation=np.tile(np.diag([1.0, 1.0, -1.0]), (5, 1, 1)))
    write("lacks", expression=None)
    write("shape", translation=np.zeros((4, 3)))
    write("far", translation=np.full((5, 3), 90.0))
    write("tiny", scale=np.full((5, 1), 1e-30))
    write("large", scale=np.full((5, 1), 99.0))
    write("strong", expression=np.full((5, 64), 9e3))


def _make_models(root: Path, model: Path) -> None:
    weights = (model / "model.safetensors").read_bytes()
    vae = (model / "vae.safetensors").read_bytes()
    config = json.loads((model / "config.json").read_text())

    def copy(name: str, file: str, change: Callable[[Path], object]) -> None:
        """A copy of the model with one file changed."""
        shutil.copytree(model, root / name)
        change(root / name / file)

    def configured(**values: object) -> Callable[[Path], object]:
        return lambda path: path.write_text(json.dumps(config | values))

    copy("w_trunc", "model.safetensors", lambda path: path.write_bytes(weights[: len(weights) // 3]))
    copy("w_flip", "model.safetensors", lambda path: path.write_bytes(weights[:20] + bytes(200) + weights[220:]))
    copy("w_nan", "model.safetensors", lambda path: path.write_bytes(_with_nan(weights)))
    copy("w_noweights", "model.safetensors", Path.unlink)
    copy("w_novae", "vae.safetensors", Path.unlink)
    copy("w_vae", "vae.safetensors", lambda path: path.write_bytes(vae[:5000]))
    copy("w_noconfig", "config.json", Path.unlink)
    copy("w_version", "config.json", configured(version=99))
    copy("w_kind", "config.json", configured(kind="other"))
    widths = config["params"]["appearance"] | {"widths": [1 << 20] * 4}
    copy("w_params", "config.json", configured(params=config["params"] | {"appearance": widths}))
    copy("w_json", "config.json", lambda path: path.write_text("{ not json"))
    copy("w_binary", "config.json", lambda path: path.write_bytes(bytes(range(256))))
    copy("w_list", "config.json", lambda path: path.write_text("[1, 2]"))
    copy("w_deep", "config.json", lambda path: path.write_text(_DEEP))
    (root / "w_empty").mkdir()


def _make_configs(root: Path) -> None:
    base = "data: nowhere\noutput: runs/x\n"

    def write(name: str, text: str) -> None:
        (root / f"c_{name}.yaml").write_text(text)

    write("unknown", base + "learning_rat: 0.1\n")
    write("object", base + "model: !!python/object/apply:os.system ['touch pwned']\n")
    write("type", base + "steps: many\n")
    write("list", "- a\n- b\n")
    write("text", "\tdata: [unclosed\n")
    (root / "c_binary.yaml").write_bytes(bytes(range(128, 256)) * 10)
    write("lacks", "output: runs/x\n")
    write("nodata", base)
    write("minus", base + "steps: -5\nbatch: 0\n")
    write("nan", base + "learning_rate: .nan\n")
    # Aliases of aliases as the value of a known key: a message that spells it out has 10^9 words.
    laughter = "- &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
    laughter += "".join(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    write("bomb", base + "freeze:\n" + laughter)
    write("deep", base + "freeze: " + "[" * 20_000 + "]" * 20_000 + "\n")


def _make_data_sets(root: Path, photo: Image.Image, talk: list[Array]) -> None:
    """Two square clips of two persons in a bare folder, whose split is `train`; predictions of them; damaged data sets."""
    whole = [np.asarray(Image.fromarray(f).crop((16, 0, 160, 144)).resize((256, 256))) for f in talk[:9]]
    side = photo.crop((100, 0, 356, 256))
    clips = {"ann": whole, "bob": [np.asarray(side.rotate(degrees)) for degrees in range(9)]}
    for name in ("nodata", "junk", "p_good", "p_lacks", "p_extra", "p_size", "p_frames", "p_short", "d_deep", "d_listed"):
        (root / name).mkdir()
    for person, frames in clips.items():
        (root / "data" / person).mkdir(parents=True)
        write_video(root / "data" / person / "one.mp4", frames)
        for name in ("p_good", "p_extra"):
            write_video(root / name / f"{person}__one.mp4", frames)
        write_video(root / "p_size" / f"{person}__one.mp4", [frame[:200, :200] for frame in frames])
        write_video(root / "p_short" / f"{person}__one.mp4", frames[:5])
        (root / "p_frames" / f"{person}__one").mkdir()
        for number, frame in enumerate(frames, 1):
            if number != 4:
                Image.fromarray(frame).save(root / "p_frames" / f"{person}__one" / f"{number:06d}.png")
    write_video(root / "p_lacks" / "ann__one.mp4", whole)
    write_video(root / "p_extra" / "carol__one.mp4", whole)
    (root / "junk" / "notes.mp4").write_text("no video")
    (root / "junk" / "picture.jpg").write_bytes(b"\xff\xd8\xff broken")
    (root / "nonsquare" / "ann").mkdir(parents=True)
    write_video(root / "nonsquare" / "ann" / "one.mp4", talk[:5])
    (root / "pairs_good.csv").write_text("source,driving\nann__one,bob__one\n")
    (root / "pairs_name.csv").write_text("source,driving\nann__one,nobody\n")
    (root / "pairs_head.csv").write_text("a,b\nann__one,bob__one\n")
    (root / "pairs_text.csv").write_bytes(bytes(range(128, 256)))
    row = {
        "name": "x", "kind": "clip", "file": "clips/x.mp4", "landmarks": "clips/x.safetensors", "frames": 1, "fps": 25.0,
        "seconds": 1.0, "source": "x.mp4", "start": 0.0, "end": 1.0, "face_width": 99.0, "yaw": [0.0, 0.0], "pitch": [0.0, 0.0],
        "sharpness": 0.3, "score": 1.0, "person": "p", "split": "val", "shard": "shards/val-000000.tar",
    }  # fmt: skip
    outside = row | {"file": "../escaped.mp4", "landmarks": "../escaped.safetensors"}
    write_prepared(root / "d_escape", outside, {"x.mp4": b"media", "x.safetensors": b"points"})
    write_prepared(root / "d_damaged", row, b"no tar" * 200)
    write_prepared(root / "d_sparse", row, {"x.mp4": None})
    (root / "d_deep" / "index.jsonl").write_text(_DEEP + "\n")
    (root / "d_listed" / "index.json").write_text('{"clips": [{"file": 5, "person": "a", "split": "val"}]}')


def _make_reports(root: Path) -> None:
    (root / "r_deep.json").write_text(_DEEP)
    (root / "r_text.json").write_text("no report")
    (root / "r_half.json").write_text('{"format": "mmfa-report", "version": 1, "figures": 7}')


def _damaged(data: bytes, *, seed: int, start: int, end: int, count: int) -> bytes:
    """`data` with `count` bytes between `start` and `end` replaced."""
    rng, damaged = random.Random(seed), bytearray(data)
    for _ in range(count):
        damaged[rng.randrange(start, end)] = rng.randrange(256)
    return bytes(damaged)


def _boxed(brand: bytes) -> bytes:
    """The head of a picture in an ISO media file, and nothing that a decoder could use."""
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1" + brand + bytes(4000)


def _with_nan(weights: bytes) -> bytes:
    """Weights whose generator has one tensor of nothing but NaN."""
    (size,) = struct.unpack("<Q", weights[:8])
    for name, entry in json.loads(weights[8 : 8 + size]).items():
        if name.startswith("generator") and name.endswith("weight") and entry["dtype"] == "F16":
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            return weights[:start] + np.full((end - start) // 2, np.nan, np.float16).tobytes() + weights[end:]
    raise AssertionError("The generator has no tensor of float16.")
