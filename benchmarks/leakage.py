"""Leakage: what moves that was not asked to move, in a model's pictures and in its keypoints, beside the floor.

    python -m benchmarks.leakage DATA [--model lite ...] [--split val] [--people N] [--frames 24] [--heads 6] [--json F]

`mmfa evaluate DATA -o REPORT --leakage` puts the figures of the pictures into a report; this says what is behind them.

DATA is a data set of square face-crop clips (see `mmfa.dataset.index`). Of each person, `--frames` frames are taken, evenly
from all clips. The most frontal one with the mouth shut is animated by eight frames of the next person, from the shut to the
open mouth, and edited by sliders; 48 pictures of each person, each measured by itself. Several models (names or folders, such as
the three compositions) stand side by side on the same frames. Definitions and marks: docs/leakage.md.

pictures    the model's output, seen by the face mesh
keypoints   the model's own keypoints, nothing rendered: leakage of the motion alone
photo       floor: the untouched frame moved by a pixel or two, turned, scaled and shifted in its plane, detected again
drawn       floor: drawn heads under exactly what is asked (`mmfa.evaluate.synthetic`), `--heads` of them
copy        the source, whatever is asked: what a figure is worth without `mouth_gain` and `slider_slope`

Brackets: 95 % of 1,000 bootstrap samples of people. 20 people, two models and the floors: 4 min 52 s of user time on one thread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

import torch
from tqdm import tqdm

from benchmarks.options import ALWAYS, parse, parser, run, save
from mmfa.dataset.index import entries
from mmfa.errors import FaceError, MediaError
from mmfa.evaluate.bootstrap import Interval
from mmfa.evaluate.extractors import LandmarkMeasurer
from mmfa.evaluate.floors import copied, drawn, photographed
from mmfa.evaluate.leakage import consistency, figures, leak
from mmfa.evaluate.protocol import look
from mmfa.evaluate.sitters import FRAMES, Sitter, sitters_of
from mmfa.evaluate.trials import Person, in_circle
from mmfa.evaluate.trials import run as run_trials
from mmfa.nets.fold import fold_batch_norms
from mmfa.portrait import KeypointModel
from mmfa.weights import from_pretrained

Column = dict[str, Interval]


def read_people(
    sitters: list[Sitter], *, frames: int, size: int, measurer: LandmarkMeasurer, quiet: bool = False
) -> list[Person]:
    """Those who show no face are left out and named."""
    people = []
    for sitter in tqdm(sitters, "faces", unit="person", disable=quiet):
        try:
            people.append(Person.of(sitter.name, sitter.frames(frames), measurer, size=size))
        except (FaceError, MediaError) as error:
            tqdm.write(f"left out: {error}")
    return people


def show(columns: Mapping[str, Column]) -> None:
    """A Markdown table; a figure that meets its mark is followed by +, one that misses it by -."""
    print("| figure | unit | mark | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 3))
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        definition = leak(name)
        aim = "" if definition.mark is None else f"{definition.ideal:g} ± {definition.mark:g}"
        cells = [cell(name, column.get(name)) for column in columns.values()]
        print(f"| {name} | {definition.unit} | {aim} | " + " | ".join(cells) + " |")


def cell(name: str, interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.value):
        return ""
    sign = {True: " +", False: " -", None: ""}[leak(name).passes(interval.value)]
    return f"{interval.value:.3g} [{interval.low:.3g}, {interval.high:.3g}]{sign}"


def step(bar: tqdm, _person: str) -> None:
    bar.update()


@torch.no_grad()
def main() -> None:
    made = parser(__doc__, "data", "split", *ALWAYS, model={"nargs": "+", "default": ["lite"]}, frames={"default": FRAMES})
    made.add_argument("--people", type=int, help="how many people, the first of the data; all of them unless given")
    made.add_argument("--heads", type=int, default=6, help="drawn heads; 0 leaves them out")
    options = parse(made)
    measurer = LandmarkMeasurer()
    models = {name: fold_batch_norms(from_pretrained(name)) for name in options.model}
    columns: dict[str, Column] = {}
    by_size: dict[int, list[Person]] = {}
    for name, model in models.items():
        assert isinstance(model, KeypointModel)
        size = model.card.size
        if size not in by_size:
            sitters = sitters_of(look(entry) for entry in entries(options.data, split=options.split))[: options.people]
            by_size[size] = read_people(sitters, frames=options.frames, size=size, measurer=measurer, quiet=options.quiet)
        people = by_size[size]
        with tqdm(total=len(people), desc=name, unit="person", disable=options.quiet) as bar:
            trials = run_trials(model, people, measurer, done=partial(step, bar))
        columns[f"{name} pictures"] = figures(trials.rendered)
        columns[f"{name} keypoints"] = figures(trials.keypoints) if trials.keypoints else {}
        columns[f"{name} keypoints"]["canonical_consistency"] = consistency(trials.canonical)
        print(f"{name}: {len(people)} people, {trials.frames} pictures, {trials.lost} without a face")
    circle = in_circle(sorted(people, key=lambda person: person.name))
    photos = [photographed(person, driver, measurer) for person, driver in tqdm(circle, "photo", disable=options.quiet)]
    columns["photo"] = figures(photos)
    if options.heads:
        heads = tqdm(range(options.heads), "drawn", disable=options.quiet)
        columns["drawn"] = figures([drawn(seed, measurer) for seed in heads])
    columns["copy"] = figures([copied(trial) for trial in trials.rendered])
    show(columns)
    report = {name: {key: asdict(value) for key, value in column.items()} for name, column in columns.items()}
    save(options.json, report)


if __name__ == "__main__":
    run(main)
