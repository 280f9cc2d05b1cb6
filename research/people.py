"""How well `mmfa prepare` tells persons apart and blurred faces from sharp ones: the figures behind its two limits.

    python -m research.people DATA --cache CACHE

DATA is a folder of face-crop clips whose persons are known (index.json, or a folder each); CACHE keeps their tracked frames, as
`mmfa train` does. Needs the extra `identity`. Each clip counts once: the mean embedding of five frames, as in `mmfa prepare`.

same, other   distance of the embeddings of two clips of one person, of two persons; pairs within one video's pieces included
limit         `people.SAME_PERSON`
torn          persons whose clips come to lie in more than one group, under `people.group`
joined        groups that hold clips of more than one person
sharpness     `shots.sharpness` of the clips' faces, median of up to ten frames; blurred: the same frames blurred by a Gaussian
              of 2 pixels on a face of 128, which the limit of `shots.Limits` is there to find
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageFilter
from tqdm import tqdm

from benchmarks.options import parse, parser, run
from mmfa.dataset.people import SAME_PERSON, group
from mmfa.dataset.shots import Limits, sharpness
from mmfa.media.crop import Box
from mmfa.media.image import Array, to_uint8
from mmfa.priors.identity import IdentityNet
from mmfa.priors.roi import to_pixels
from mmfa.train.cache import prepare
from mmfa.train.data import Clip, ClipDataset

FRAMES, LOOKS = 5, 10
BLUR = 2.0
FACE = 128


def sharp(clip: Clip, size: int) -> tuple[float, float]:
    """Sharpness of a clip's face, as it is and blurred."""
    chosen = sorted({round(i) for i in np.linspace(0, len(clip.landmarks) - 1, LOOKS)})
    found = []
    for image, points in zip(to_uint8(clip.images(chosen, size=size)), clip.landmarks[chosen], strict=True):
        pixels = to_pixels(points, size, size)[:468, :2]
        box: Box = (*pixels.amin(0).tolist(), *pixels.amax(0).tolist())
        found.append([sharpness(picture, box) for picture in (image, blurred(image, box))])
    plain, soft = np.median(found, axis=0)
    return float(plain), float(soft)


def blurred(image: Array, box: Box) -> Array:
    radius = BLUR * max(box[2] - box[0], box[3] - box[1]) / FACE
    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


@torch.no_grad()
def main() -> None:
    made = parser(__doc__, "data", "fps", "threads", "quiet", cache={"required": True})
    made.add_argument("--size", type=int, default=256, help="of the pictures, in pixels")
    options = parse(made)
    splits = [prepare(options.data, options.cache, fps=options.fps, split=s, quiet=options.quiet) for s in ("train", "val")]
    files = [file for split in splits for file in split]
    clips = ClipDataset(files, size=options.size).clips
    net = IdentityNet().eval()
    embeddings, sharpnesses = [], []
    for clip in tqdm(clips, unit="clip", disable=options.quiet):
        shown = sorted({round(i) for i in np.linspace(0, len(clip.landmarks) - 1, FRAMES)})
        embeddings.append(net.embed(clip.images(shown, size=options.size), clip.landmarks[shown]).mean(0))
        sharpnesses.append(sharp(clip, options.size))
    people = np.array([clip.person for clip in clips])
    vectors = torch.stack(embeddings).double()
    distance = torch.cdist(*[vectors / vectors.norm(dim=1, keepdim=True)] * 2).numpy()
    upper = np.triu(np.ones_like(distance, dtype=bool), 1)
    same = people[:, None] == people
    labels = group(vectors.numpy())
    torn = sum(len(set(labels[people == person])) > 1 for person in set(people))
    joined = sum(len(set(people[labels == label])) > 1 for label in set(labels))
    print(f"{len(clips)} clips of {len(set(people))} persons; limit {SAME_PERSON}")
    print("| pairs | count | 0.1 % | 1 % | median | 99 % | 99.9 % |\n|" + "---|" * 7)
    for name, pairs in (("same", upper & same), ("other", upper & ~same)):
        quantiles = np.quantile(distance[pairs], [0.001, 0.01, 0.5, 0.99, 0.999])
        print(f"| {name} | {pairs.sum()} | " + " | ".join(f"{value:.3f}" for value in quantiles) + " |")
    print(f"{len(set(labels))} groups: {torn} persons torn, {joined} groups joined")
    limit = Limits(face=0, seconds=0).sharpness
    for name, values in zip(("sharpness", "blurred"), np.array(sharpnesses).T, strict=True):
        low, middle = values.min(), np.median(values)
        print(f"{name}: lowest {low:.3f}, median {middle:.3f}, below {limit}: {(values < limit).mean():.1%}")


if __name__ == "__main__":
    run(main)
