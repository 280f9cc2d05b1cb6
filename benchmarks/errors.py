"""Where the squared error of reenactment lies: in the head, beside it, or below the chin; and what PSNR each part leaves.

    python -m benchmarks.errors DATA --cache CACHE [--model lite] [--split val] [--frames 5]

DATA and CACHE as for `mmfa train`. The first frame of each person's first clip is animated by `--frames` others, evenly. The
parts are the model's own: the head is where the driving pose's background map is below a half, the rest is split at the chin.

share       of the driving pictures' pixels
copy, MODEL share of the squared error that lies there, over all frames
gain        what the mean PSNR would be higher by, if the model's error there were nought and as it is elsewhere, dB
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.options import ALWAYS, parse, parser, run, save
from mmfa.models.lite.model import LiteMMFA
from mmfa.nets.blocks import resize
from mmfa.nets.dense_motion import LayeredFlow
from mmfa.train.cache import prepare
from mmfa.train.data import ClipDataset, face_of
from mmfa.weights import from_pretrained

PARTS = ("head", "beside and above", "below the chin")


def parts_of(background: Tensor, chin: Tensor) -> Tensor:
    """Masks (B,3,S,S) that add up to 1, of a background map (B,1,S,S) and the chin's place (B,) in grid coordinates."""
    size = background.shape[-1]
    rows = torch.linspace(-1, 1, size)[None, None, :, None]
    below = (rows > chin[:, None, None, None]).float().expand(-1, -1, -1, size)
    behind = (background >= 0.5).float()
    return torch.cat([1 - behind, behind * (1 - below), behind * below], 1)


def psnr(error: Tensor) -> float:
    """Mean over frames of the PSNR of mean squared errors (T,), capped at 100 dB."""
    return float((-10 * error.clamp(min=1e-10).log10()).mean())


@torch.no_grad()
def main() -> None:
    made = parser(__doc__, "data", "model", "split", "fps", *ALWAYS, cache={"required": True}, frames={"default": 5})
    options = parse(made)
    model = from_pretrained(options.model)
    assert isinstance(model, LiteMMFA)
    size = model.card.size
    files = prepare(options.data, options.cache, fps=options.fps, split=options.split, quiet=options.quiet)
    people = ClipDataset(files, size=size).people
    shares: list[Tensor] = []
    copied: list[Tensor] = []
    generated: list[Tensor] = []
    for clips in people.values():
        clip = clips[0]
        last = len(clip.landmarks) - 1
        driving = torch.linspace(last / (options.frames + 1), last, options.frames).long().tolist()
        face = face_of(clip.images([0, *driving], size=size), clip.landmarks[[0, *driving]])
        rendering = model.render(model.prepare(face[:1]).expand(options.frames), model.motion(face[1:]))
        assert isinstance(rendering.flow, LayeredFlow)
        target = face.image[1:]
        masks = parts_of(resize(rendering.flow.background, (size, size)), clip.landmarks[driving][:, 152, 1])
        shares.append(masks.mean((2, 3)))
        for image, errors in ((face.image[:1], copied), (rendering.images[-1], generated)):
            squared = (image - target).square().mean(1, keepdim=True)
            errors.append((squared * masks).mean((2, 3)))
    share, copy, model_error = (torch.cat(values) for values in (shares, copied, generated))
    whole = model_error.sum(1)
    print(
        f"{len(people)} people, {len(whole)} frames; PSNR of copying {psnr(copy.sum(1)):.2f}, "
        f"of {options.model} {psnr(whole):.2f}\n"
    )
    print(f"| | share | copy | {options.model} | gain |\n|---|---|---|---|---|")
    figures = {}
    for index, name in enumerate(PARTS):
        row = [share[:, index].mean(), *(error[:, index].sum() / error.sum() for error in (copy, model_error))]
        gain = psnr(whole - model_error[:, index]) - psnr(whole)
        print(f"| {name} | " + " | ".join(f"{100 * float(value):.0f} %" for value in row) + f" | {gain:.2f} |")
        figures[name] = dict(zip(("share", "copy", "model", "gain"), [*map(float, row), gain], strict=True))
    save(options.json, {"model": options.model, "parts": figures})


if __name__ == "__main__":
    run(main)
