"""Reconstruction of the validation people, beside copying the source and an untrained model: a short table of `mmfa evaluate`.

    python -m benchmarks.quality DATA --model lite [--stride 8] [--cross] [--sheet sheet.png] [--json figures.json] [--cache DIR]

DATA is a data set with clips in the split "val" (docs/data.md). Clips too short for the stride are left out. The first frame of
each clip drives the rest; every `stride`-th frame is measured, at the clip's size. Each column is a metric of docs/metrics.md:

psnr               `psnr`, dB
landmark_px        `akd_l2_mesh478`, in pixels of 256
mouth_px           `akd_l2_lips40`
sharpness          `sharpness`
yaw_r, mouth_r, eye_r   the same
csim               `csim`: with the driving frame
rotation_deg       `rotation_error`
lost               frames in which no face is found
landmark_to_copy   landmark_px over that of copying the source

With --cross the first frame of each person's first clip is driven, absolutely, by the next person's first clip; csim is then with
the source. With --cache the measures are kept, and shared between models. All other figures, with intervals: mmfa evaluate.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from benchmarks.options import ALWAYS, parse, parser, run, save
from mmfa.dataset.index import entries
from mmfa.evaluate.cache import Cache
from mmfa.evaluate.measure import GeneratedJob, load_generated
from mmfa.evaluate.protocol import Task, look, tasks_of
from mmfa.evaluate.report import Report
from mmfa.evaluate.run import evaluate
from mmfa.evaluate.subjects import CopySource, Model, Subject
from mmfa.media.image import write_image
from mmfa.models.lite.model import LiteMMFA
from mmfa.registry import build
from mmfa.weights import from_pretrained, save_pretrained

COLUMNS = {
    "psnr": "psnr", "landmark_px": "akd_l2_mesh478", "mouth_px": "akd_l2_lips40", "sharpness": "sharpness", "yaw_r": "yaw_r",
    "mouth_r": "mouth_r", "eye_r": "eye_r", "csim": "csim", "rotation_deg": "rotation_error",
}  # fmt: skip
ACROSS = ("csim", "rotation_deg", "yaw_r", "mouth_r", "eye_r", "lost", "frames")
SHOWN = 10
"""Clips on the sheet, one of each person."""

Row = dict[str, float]


@dataclass(frozen=True)
class Place:
    """A folder that lists the clips that are long enough for the stride, and where measures and reports go."""

    data: Path
    stride: int
    cache: Path
    quiet: bool

    def measure(self, subject: Subject, *, pairs: Path | None = None) -> Report:
        """The report of a subject, same-identity, or of these pairs."""
        return evaluate(
            self.data,
            self.data / "report",
            subject=subject,
            protocol="cross" if pairs else "same",
            stride=self.stride,
            pairs=pairs,
            cache=self.cache,
            quiet=self.quiet,
        ).report


@contextmanager
def place(data: Path, *, stride: int, cache: Path | None, quiet: bool) -> Iterator[Place]:
    with TemporaryDirectory() as temporary:
        clips = [look(entry) for entry in entries(data, split="val")]
        long = [clip for clip in clips if clip.frames > stride]
        print(f"{len(long)} of {len(clips)} clips have more than {stride} frames.")
        listed = [{"person": clip.person, "split": "val", "file": str(clip.path.resolve())} for clip in long]
        (Path(temporary) / "index.json").write_text(json.dumps({"clips": listed}))
        yield Place(Path(temporary), stride, cache or Path(temporary) / "cache", quiet)


def save_untrained(like: str, folder: Path) -> Path:
    """A model of the same size with random weights, anchored to the same mean mesh if it is one that can be."""
    model = from_pretrained(like)
    torch.manual_seed(0)
    untrained = build(model.params).eval()
    if isinstance(model, LiteMMFA) and isinstance(untrained, LiteMMFA):
        untrained.anchor(model.mean_mesh)
    save_pretrained(untrained, folder)
    return folder


def row_of(report: Report) -> Row:
    found = {column: report.figure(name) for column, name in COLUMNS.items()}
    row = {column: figure.value for column, figure in found.items() if figure is not None}
    return row | {"lost": report.missed_generated, "frames": report.frames}


def next_persons(data: Path) -> str:
    """The pairs of --cross as a file: the next person's first clip drives the first frame of each person's first clip."""
    first: dict[str, str] = {}
    for entry in entries(data, split="val"):
        first.setdefault(entry.person, entry.name)
    names = list(first.values())
    lines = [f"{source},{driving}" for source, driving in zip(names, names[1:] + names[:1], strict=True)]
    return "\n".join(["source,driving", *lines]) + "\n"


def write_sheet(path: Path, subject: Subject, where: Place) -> None:
    """One clip of each person: the source and driving frames, below them what was generated."""
    first: dict[str, Task] = {}
    for task in tasks_of(where.data, protocol="same", split="val", stride=where.stride):
        first.setdefault(task.driving.person, task)
    cache = Cache(where.cache)
    sheets = [load_generated(GeneratedJob(subject, task), cache).sheet for task in list(first.values())[:SHOWN]]
    pictures = [np.array(Image.open(io.BytesIO(sheet)).convert("RGB")) for sheet in sheets]
    width = max(picture.shape[1] for picture in pictures)
    padded = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    write_image(path, np.concatenate(padded))


def show(rows: Mapping[str, Row], title: str) -> None:
    header = list(next(iter(rows.values())))
    print(f"| {title} | " + " | ".join(header) + " |\n|" + "---|" * (len(header) + 1))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[key]:.4g}" for key in header) + " |")


def main(words: list[str] | None = None) -> None:
    made = parser(__doc__, "data", "model", "cache", *ALWAYS)
    made.add_argument("--stride", type=int, default=8, help="measure every N-th frame")
    made.add_argument("--cross", action="store_true", help="also another person's motion")
    made.add_argument("--sheet", type=Path, metavar="FILE", help="also write a contact sheet")
    options = parse(made, words)
    with place(options.data, stride=options.stride, cache=options.cache, quiet=options.quiet) as where:
        model = Model(options.model)
        untrained = Model(str(save_untrained(options.model, where.data / "untrained")))
        subjects: dict[str, Subject] = {"copy the source": CopySource(), "untrained": untrained, options.model: model}
        rows = {name: row_of(where.measure(subject)) for name, subject in subjects.items()}
        for row in rows.values():
            row["landmark_to_copy"] = row["landmark_px"] / rows["copy the source"]["landmark_px"]
        show(rows, "same identity")
        report = {"same": rows}
        if options.cross:
            pairs = where.data / "pairs.csv"
            pairs.write_text(next_persons(where.data))
            row = row_of(where.measure(model, pairs=pairs))
            report["cross"] = {options.model: {key: row[key] for key in ACROSS}}
            show(report["cross"], "cross-identity")
        if options.sheet:
            write_sheet(options.sheet, model, where)
    save(options.json, report)


if __name__ == "__main__":
    run(main)
