"""Named directions: how much each moves its own measure, and how little the others.

    python -m benchmarks.directions DATA --cache CACHE [--model lite] [--split val] [--strength 1] [--render 60] [--travel]

DATA and CACHE as for `mmfa train-vae`. Frames of the split are drawn, people evenly; f is moved by `strength` along each
direction. With --travel the change is that from -strength to strength, for those that go both ways (`BOTH_WAYS`). Rows are
directions, columns measures (`mmfa.expressions.measures`).

keypoints  mean change of the measure on the model's keypoints x_c + D_exp(f, x_c), over the standard deviation of the measure
           within a person in the data, on such keypoints
rendered   with --render N: the same on landmarks detected in N rendered frames, in the pose-normalised frame, against the
           rendering of the unmoved f, over the standard deviation on the data's own landmarks
own/other  the own change over the largest other, in the mean as printed; the mark is 3
abs        the same with the mean of absolute changes, frame by frame, in place of means: stricter
beyond 2   share of the frames whose measure, on keypoints, is further above the person's mean than twice the 95th percentile
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.options import ALWAYS, parse, parser, run, save
from mmfa.expressions import NAMES, ExpressionSpace, keypoint_measures
from mmfa.models.mmfa import MMFA
from mmfa.train.calibration import keypoint_effects, picture_effects
from mmfa.train.data import ClipDataset
from mmfa.train.directions import BOTH_WAYS, weighted_quantile, within_person
from mmfa.train.vae import VAEConfig, read_expressions, tracked_clips
from mmfa.weights import from_pretrained


def table(title: str, changes: Tensor) -> dict[str, dict[str, float]]:
    """Print the matrix of changes (frames,7,7), and return it."""
    mean, size = changes.mean(0), changes.abs().mean(0)
    print(f"\n{title}, {len(changes)} frames\n| | " + " | ".join(NAMES) + " | own/other | abs |\n|" + "---|" * (len(NAMES) + 3))
    rows = {}
    for i, name in enumerate(NAMES):
        ratios = [float(x[i, i].abs() / x[i].abs().index_fill(0, torch.tensor([i]), 0).max()) for x in (mean, size)]
        rows[name] = dict(zip((*NAMES, "own/other", "abs"), [*mean[i].tolist(), *ratios], strict=True))
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in mean[i]) + f" | {ratios[0]:.1f} | {ratios[1]:.1f} |")
    return rows


def there_and_back(changes: Tensor) -> Tensor:
    """Changes (frames,7,7) from the way back to the way there, of both (frames,7 + len(BOTH_WAYS),7); others' as they are."""
    there, back = changes.split([len(NAMES), len(BOTH_WAYS)], 1)
    return there.index_add(1, torch.tensor(BOTH_WAYS), -back)


@torch.no_grad()
def beyond(model: MMFA, clips: ClipDataset, value: float) -> list[float]:
    """Per cent of the frames, people evenly, that exceed `value` on each direction's scale."""
    data = read_expressions(model, clips)
    seen = keypoint_measures(data.canonical + model.expression_decoder(data.feature, data.canonical)).stack()
    deviation = within_person(seen, data.person)
    reach = weighted_quantile(deviation, data.weight, 0.95)
    return (100 * (data.weight @ (deviation > value * reach).float())).tolist()


@torch.no_grad()
def main() -> None:
    made = parser(__doc__, "data", "cache", "model", "split", "seed", *ALWAYS, cache={"required": True}, frames={"default": 2000})
    made.add_argument("--strength", type=float, default=1.0, help="how far f is moved along a direction")
    made.add_argument("--render", type=int, default=0, metavar="N", help="also measure N rendered frames")
    made.add_argument("--travel", action="store_true", help="from -strength to strength")
    options = parse(made)
    model = from_pretrained(options.model)
    assert isinstance(model, MMFA)
    space = ExpressionSpace.load(options.model, model=model)
    steps = torch.cat([space.offset({name: options.strength}) for name in NAMES])
    if options.travel:
        steps = torch.cat([steps, *(space.offset({NAMES[index]: -options.strength}) for index in BOTH_WAYS)])
    whole = there_and_back if options.travel else torch.clone
    config = VAEConfig(data=str(options.data), cache=str(options.cache), output=".", model=options.model)
    clips = tracked_clips(model, config, split=options.split)
    rows = {"keypoints": table("keypoints", whole(keypoint_effects(model, steps, clips, count=options.frames)))}
    shares = " | ".join(f"{share:.1f} %" for share in beyond(model, clips, 2.0))
    print(f"| beyond 2 | {shares} | | |")
    if options.render:
        changes = picture_effects(model, steps, clips, count=options.render)
        if len(changes) < options.render:
            print(f"\n{options.render - len(changes)} frames lost their face when rendered")
        rows["rendered"] = table("rendered", whole(changes))
    save(options.json, rows)


if __name__ == "__main__":
    run(main)
