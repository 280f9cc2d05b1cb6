"""What fine-tuning on one person's clips gains on seconds that it did not see.

    python -m research.finetune CLIP [CLIP ...] -o WORK [--config finetune] [--held-out 4] [--steps N]

The clips are square face crops of one person, as `mmfa prepare` makes them. The last `held-out` seconds of the first clip are cut
off and become the split "val" of the data set WORK/data; what is before, and the other clips, are trained on as the config says.
Then `benchmarks/quality.py --stride 4` measures the weights that the config starts from and the fine-tuned ones; columns there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from benchmarks import quality
from benchmarks.options import parse, parser, run
from mmfa.media.video import VideoReader, VideoWriter
from mmfa.train.config import TrainConfig
from mmfa.train.shipped import config_path
from mmfa.train.trainer import Trainer


def cut(clip: Path, target: Path, *, start: int, end: int) -> None:
    """Frames start to end - 1 of a clip, nearly lossless."""
    with VideoReader(clip) as video:
        size = (video.info.width, video.info.height)
        with VideoWriter(target, fps=video.info.fps, size=size, quality=6) as writer:
            for index, frame in enumerate(video):
                if start <= index < end:
                    writer.write(frame.image)


def split(clips: list[Path], data: Path, *, held_out: float) -> None:
    """The data set: pieces of the clips and an index that names their splits."""
    data.mkdir(parents=True, exist_ok=True)
    listed = []
    for number, clip in enumerate(clips):
        with VideoReader(clip) as video:
            count, fps = sum(1 for _ in video), float(video.info.fps)
        border = count - round(held_out * fps) if number == 0 else count
        pieces = [("train", 0, border), ("val", border, count)] if border < count else [("train", 0, count)]
        for name, start, end in pieces:
            file = f"{name}{number}.mp4"
            cut(clip, data / file, start=start, end=end)
            listed.append({"file": file, "person": "one", "split": name})
    (data / "index.json").write_text(json.dumps({"clips": listed}))


def main() -> None:
    made = parser(__doc__, "threads", "quiet")
    made.add_argument("clips", type=Path, nargs="+", metavar="CLIP", help="square face crops of one person")
    made.add_argument("-o", "--output", type=Path, required=True, metavar="WORK", help="a folder for data and run")
    made.add_argument("--config", default="finetune", help="a config by name, or a file")
    made.add_argument("--held-out", type=float, default=4.0, metavar="S", help="seconds of the first clip, its last")
    made.add_argument("--steps", type=int, help="those of the config unless given")
    options = parse(made)
    data, run = options.output / "data", options.output / "run"
    split(options.clips, data, held_out=options.held_out)
    config = replace(
        TrainConfig.load(config_path(options.config)), data=str(data), output=str(run), cache=str(options.output / "cache")
    )
    config = config if options.steps is None else replace(config, steps=options.steps)
    Trainer(config, quiet=options.quiet).run()
    for model in (config.init or config.model, str(run / "model")):
        print(f"\n{model}", flush=True)
        quiet = ["--quiet"] if options.quiet else []
        quality.main([str(data), "--model", model, "--stride", "4", "--threads", str(options.threads), *quiet])


if __name__ == "__main__":
    run(main)
