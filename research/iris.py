"""What the landmark network takes along when nothing but the irises moves, and what patches of the picture make of it.

    python -m research.iris DATA --cache CACHE [--split train] [--people 60] [--shift 1.5]

DATA is a folder of face-crop clips; CACHE keeps their tracked landmarks, as `mmfa train` does. In two frames of each person a
disc around each iris, 0.18 eye widths in radius, is moved by `shift` pixels of 256, up, down, left and right; the picture is
stretched up to a radius of 0.28 and untouched beyond. Landmarks are detected in the picture before and after. Numbers: how far
points move in the image along the shift, over the shift, in the mean over frames. Truth is 1 for the irises and 0 for all
others but the lids, whose edges are within the stretched ring. Second table: the same by the patches of
`research/patches.py`, which know nothing of faces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.options import parse, parser, run
from mmfa.geometry import image_grid, warp
from mmfa.media.image import to_uint8
from mmfa.priors.detector import FaceDetector
from mmfa.priors.landmarks import FaceLandmarker, FaceTracker
from mmfa.train.cache import prepare
from mmfa.train.data import ClipDataset
from research.patches import PATCHES, found

SIZE = 256
EYES = ((468, 33, 133), (473, 362, 263))
GROUPS = {
    "irises": (468, 473),
    "lids": (159, 386, 145, 374),
    "eye corners": (33, 133, 362, 263),
    "brows": (70, 105, 107, 300, 334, 336),
    "bridge of the nose": (168, 6),
    "nose": (5, 1, 98, 327),
}
WAYS = {"down": (0.0, 1.0), "up": (0.0, -1.0), "right": (1.0, 0.0), "left": (-1.0, 0.0)}


def moved(image: Tensor, landmarks: Tensor, shift: Tensor) -> Tensor:
    """The picture (1,3,S,S) with its irises moved by a shift (2,) in grid units; landmarks (478,3)."""
    grid = image_grid(SIZE, SIZE)
    flow = grid.clone()
    for iris, *corners in EYES:
        width = (landmarks[corners[0], :2] - landmarks[corners[1], :2]).norm()
        radius = (grid - shift - landmarks[iris, :2]).norm(dim=2, keepdim=True) / width
        flow = flow - shift * ((0.28 - radius) / 0.1).clamp(0, 1)
    return warp(image, flow[None])


@torch.no_grad()
def main() -> None:
    made = parser(__doc__, "data", "fps", "threads", cache={"required": True}, split={"default": "train"})
    made.add_argument("--people", type=int, default=60, help="how many people, the first of the data")
    made.add_argument("--shift", type=float, default=1.5, help="of the irises, in pixels of 256")
    options = parse(made)
    data = ClipDataset(prepare(options.data, options.cache, fps=options.fps, split=options.split), size=SIZE)
    landmarker, detector = FaceLandmarker(), FaceDetector()
    rows: dict[str, list[Tensor]] = {way: [] for way in WAYS}
    patches: dict[str, list[Tensor]] = {way: [] for way in WAYS}
    for clip, *_ in list(data.people.values())[: options.people]:
        for index in (len(clip.landmarks) // 4, len(clip.landmarks) // 2):
            image = clip.images([index], size=SIZE)
            pictures = [
                image,
                *(moved(image, clip.landmarks[index], torch.tensor(way) * options.shift * 2 / SIZE) for way in WAYS.values()),
            ]
            seen = [FaceTracker(landmarker=landmarker, detector=detector).track(to_uint8(picture)[0]) for picture in pictures]
            faces = [face.points[:, :2] for face in seen if face is not None]
            if len(faces) < len(seen):
                continue
            pixels = (clip.landmarks[index][:, :2] + 1) * ((SIZE - 1) / 2)
            before, *after = (255 * picture[0].mean(0) for picture in pictures)
            for (name, way), points, other in zip(WAYS.items(), faces[1:], after, strict=True):
                change = (points - faces[0]) @ torch.tensor(way) / (options.shift * 2 / SIZE)
                rows[name].append(torch.stack([change[list(group)].mean() for group in GROUPS.values()]))
                ways = [
                    torch.stack([found(before, other, pixels[vertex], radius) for vertex in group]).mean(0)
                    for group, radius in PATCHES.items()
                ]
                patches[name].append(torch.stack(ways) @ torch.tensor(way) / (options.shift * (SIZE - 1) / SIZE))
    print(f"{len(rows['down'])} frames, irises moved by {options.shift} pixels\n")
    for names, table in ((tuple(GROUPS), rows), (("irises", "eye corners", "brows"), patches)):
        print("| | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
        for name, changes in table.items():
            print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in torch.stack(changes).mean(0)) + " |")
        print()


if __name__ == "__main__":
    run(main)
