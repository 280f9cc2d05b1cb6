"""Where the squared error of reenactment lies: in the face, on the rest of the person, or behind; and what PSNR each part leaves.

    python -m benchmarks.errors DATA --cache CACHE [--model lite] [--split val] [--frames 5]

DATA and CACHE as for `mmfa train`. The first frame of each person's first clip is animated by `--frames` others, evenly, as for a
user. The parts are the driving frame's: the face within its outline, the rest of the person by the segmentation network, and the
background.

share       of the driving pictures' pixels
copy, MODEL share of the squared error that lies there, over all frames
gain        what the mean PSNR would be higher by, if the model's error there were nought and as it is elsewhere, dB
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.options import ALWAYS, parse, parser, run, save
from mmfa.geometry import image_grid, polygon_distance
from mmfa.media.image import to_tensor, to_uint8
from mmfa.nets.blocks import resize
from mmfa.priors.groups import FACE_OVAL
from mmfa.priors.matte import INPUT_SIZE
from mmfa.session import Session
from mmfa.train.cache import prepare
from mmfa.train.data import ClipDataset, face_of

PARTS = ("face", "rest of the person", "background")


def parts_of(outline: Tensor, person: Tensor) -> Tensor:
    """Masks (B,3,S,S) that add up to 1, of the face's outline (B,n,2) in grid coordinates and the person's matte (B,1,S,S)."""
    size = person.shape[-1]
    places = image_grid(size, size).flatten(0, 1).expand(len(outline), -1, -1)
    face = (polygon_distance(places, outline) > 0).to(person).unflatten(1, (size, size))[:, None]
    rest = (person >= 0.5).to(person) * (1 - face)
    return torch.cat([face, rest, 1 - face - rest], 1)


def psnr(error: Tensor) -> float:
    """Mean over frames of the PSNR of mean squared errors (T,), capped at 100 dB."""
    return float((-10 * error.clamp(min=1e-10).log10()).mean())


@torch.no_grad()
def main() -> None:
    made = parser(__doc__, "data", "model", "split", "fps", *ALWAYS, cache={"required": True}, frames={"default": 5})
    options = parse(made)
    session = Session.from_pretrained(options.model, device="cpu")
    size, matte = session.engine.card.size, session.priors.matte
    files = prepare(options.data, options.cache, fps=options.fps, split=options.split, quiet=options.quiet)
    people = ClipDataset(files, size=size).people
    shares: list[Tensor] = []
    copied: list[Tensor] = []
    generated: list[Tensor] = []
    for clips in people.values():
        clip = clips[0]
        last = clip.length - 1
        driving = torch.linspace(last / (options.frames + 1), last, options.frames).long().tolist()
        images = clip.images([0, *driving], size=size)
        photo = session.photo(to_uint8(images[:1])[0], crop=False)
        signal = session.engine.signal(face_of(images[1:], clip.points(driving)))
        frames = torch.stack([to_tensor(frame) for frame in session.render(photo, signal, paste_back=False)])
        target = images[1:]
        person = resize(matte(resize(target, (INPUT_SIZE, INPUT_SIZE)))[:, None], (size, size))
        masks = parts_of(clip.points(driving)[:, list(FACE_OVAL), :2], person)
        shares.append(masks.mean((2, 3)))
        for image, errors in ((images[:1], copied), (frames, generated)):
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
