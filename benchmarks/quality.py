"""Reconstruction of the validation people (the first frame drives the rest of each clip) and cross-identity reenactment.

    python benchmarks/quality.py DATA --model lite [--stride 8] [--cross] [--sheet sheet.png] [--json figures.json]

DATA is a folder of 256 x 256 face-crop clips with an index.json that names the split "val". Every `stride`-th frame of each
clip is measured, at the model's size, on lossless frames. Rows: copying the source, the untrained model, the model.

psnr               dB, mean over frames of the PSNR over all pixels
landmark_px        mean distance over the 478 landmarks detected in output and driving frame, in pixels of 256
mouth_px           the same over the 40 points of the lips
landmark_to_copy   landmark_px over that of copying the source
yaw_r, mouth_r, eye_r   Pearson correlation, over all frames with each clip's own mean removed, of what is measured in the
                   output with what is measured in the driving frame: head yaw, mouth opening, eye opening
sharpness          mean variance of the Laplacian of the output's luma over that of the driving frames
csim               mean cosine of dlib's embeddings of output and driving frame (needs the extra `identity`)
lost               frames in which no face is detected

With --cross the first frame of each person's first clip is driven, absolutely, by the next person's first clip:

csim               of output and source
rotation_deg       mean angle between the head rotations measured in output and driving frame
mouth_r, eye_r     as above
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from mmfa.dataset.index import entries
from mmfa.faces import PixelFace, face_input
from mmfa.geometry import geodesic_angle, matrix_to_euler
from mmfa.media.crop import CropBox
from mmfa.media.image import Array, contact_sheet, to_tensor, to_uint8, write_image
from mmfa.media.video import VideoReader
from mmfa.nets.mmfa import MMFA, FaceInput
from mmfa.priors import identity
from mmfa.priors.landmarks import LIPS, FaceLandmarker, FaceTracker, eye_opening, mouth_opening
from mmfa.priors.pose import head_pose
from mmfa.weights import build, from_pretrained

LANDMARKER = FaceLandmarker()
IDENTITY = identity.IdentityNet() if identity.available() else None


@dataclass
class Measures:
    psnr: list[float] = field(default_factory=list)
    landmark_px: list[float] = field(default_factory=list)
    mouth_px: list[float] = field(default_factory=list)
    csim: list[float] = field(default_factory=list)
    rotation_deg: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    followed: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {"yaw": [], "mouth": [], "eye": []})
    lost: int = 0


def attributes(points: torch.Tensor) -> dict[str, float]:
    yaw = matrix_to_euler(head_pose(points[None]).rotation)[1]
    return {"yaw": float(yaw), "mouth": float(mouth_opening(points)), "eye": float(eye_opening(points))}


def laplacian_variance(image: torch.Tensor) -> float:
    luma = (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)[None, None]
    kernel = image.new_tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return float(F.conv2d(luma, kernel).var())


def embedding(image: Array, points: torch.Tensor) -> torch.Tensor | None:
    return IDENTITY.embed(to_tensor(image)[None], points[None])[0] if IDENTITY is not None else None


def measure(
    into: Measures, outputs: Array, targets: Array, points: list[torch.Tensor], *, like: torch.Tensor | None = None
) -> None:
    """One clip: outputs and targets (T,S,S,3) uint8, landmarks of the targets. Identity is compared with the embedding
    `like`, or with the target's."""
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in into.followed}
    tracker = FaceTracker(landmarker=LANDMARKER)
    for output, target, wanted in zip(outputs, targets, points, strict=True):
        a, b = to_tensor(output), to_tensor(target)
        into.psnr.append(float(-10 * torch.log10(((a - b) ** 2).mean().clamp_min(1e-10))))
        into.sharpness.append(laplacian_variance(a) / laplacian_variance(b))
        found = tracker.track(output)
        if found is None or found.lost:
            into.lost += 1
            continue
        half = (output.shape[0] - 1) / 2 * 256 / output.shape[0]
        distance = (found.points - wanted)[:, :2].norm(dim=1) * half
        into.landmark_px.append(float(distance.mean()))
        into.mouth_px.append(float(distance[list(LIPS)].mean()))
        turned = geodesic_angle(head_pose(found.points[None]).rotation, head_pose(wanted[None]).rotation)
        into.rotation_deg.append(float(turned))
        mine, reference = embedding(output, found.points), embedding(target, wanted) if like is None else like
        if mine is not None and reference is not None:
            into.csim.append(float(F.cosine_similarity(mine, reference, 0)))
        measured, asked = attributes(found.points), attributes(wanted)
        for name, row in rows.items():
            row.append((measured[name], asked[name]))
    for name, row in rows.items():
        if row:
            centred = np.array(row) - np.mean(row, 0)
            into.followed[name] += [(float(x), float(y)) for x, y in centred]


@dataclass(frozen=True)
class Clip:
    """Every `stride`-th frame of one clip with a face, its landmarks, and what the networks take."""

    person: str
    frames: list[Array]
    points: list[torch.Tensor]
    faces: list[FaceInput]


def read(path: Path, person: str, *, stride: int, size: int) -> Clip:
    tracker = FaceTracker(landmarker=LANDMARKER)
    clip = Clip(person, [], [], [])
    with VideoReader(path) as video:
        for number, frame in enumerate(video):
            tracked = tracker.track(frame.image)
            if number % stride or tracked is None or tracked.lost:
                continue
            clip.frames.append(frame.image)
            clip.points.append(tracked.points)
            box = CropBox(frame.image.shape[1] / 2, frame.image.shape[0] / 2, frame.image.shape[0])
            clip.faces.append(face_input(frame.image, PixelFace.of(tracked, frame.image), box, size=size))
    return clip


def animate(model: MMFA, source: FaceInput, driving: list[FaceInput]) -> Array:
    known = model.source(source)
    return np.stack([to_uint8(model.render(known, model.motion(face)).images[-1])[0] for face in driving])


def row_of(result: Measures) -> dict[str, float]:
    row = {name: float(np.mean(getattr(result, name))) for name in ("psnr", "landmark_px", "mouth_px", "sharpness")}
    for key, pairs in result.followed.items():
        a, b = np.array(pairs).T
        row[f"{key}_r"] = float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-9 else float("nan")
    row["csim"] = float(np.mean(result.csim)) if result.csim else float("nan")
    row["rotation_deg"] = float(np.mean(result.rotation_deg))
    return row | {"lost": result.lost, "frames": len(result.psnr)}


def show(rows: dict[str, dict[str, float]], title: str) -> None:
    header = list(next(iter(rows.values())))
    print(f"| {title} | " + " | ".join(header) + " |\n|" + "---|" * (len(header) + 1))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[key]:.4g}" for key in header) + " |")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--cross", action="store_true")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = from_pretrained(options.model)
    untrained = build("lite" if model.params.size == 256 else "tiny").eval()
    untrained.anchor(model.mean_mesh)
    models = {"untrained": untrained, options.model: model}
    results = {name: Measures() for name in ("copy the source", *models)}
    first: dict[str, Clip] = {}
    sheet: list[list[Array]] = []
    for entry in tqdm(entries(options.data, split="val"), unit="clip"):
        clip = read(entry.path, entry.person, stride=options.stride, size=model.params.size)
        if len(clip.frames) < 2:
            continue
        targets = np.stack([resized(frame, model.params.size) for frame in clip.frames])
        measure(results["copy the source"], np.stack([targets[0]] * (len(targets) - 1)), targets[1:], clip.points[1:])
        for name, candidate in models.items():
            outputs = animate(candidate, clip.faces[0], clip.faces[1:])
            measure(results[name], outputs, targets[1:], clip.points[1:])
        if clip.person not in first and len(sheet) < 10:
            picks = np.linspace(0, len(outputs) - 1, 4).astype(int)
            sheet.append([targets[0], *[image for i in picks for image in (targets[1 + i], outputs[i])]])
        first.setdefault(clip.person, clip)
    rows = {name: row_of(result) for name, result in results.items()}
    copying = rows["copy the source"]["landmark_px"]
    for row in rows.values():
        row["landmark_to_copy"] = row["landmark_px"] / copying
    show(rows, "same identity")
    report = {"same": rows}
    if options.cross:
        crossed = Measures()
        people = list(first.values())
        for person, driver in zip(people, people[1:] + people[:1], strict=True):
            outputs = animate(model, person.faces[0], driver.faces)
            like = embedding(person.frames[0], person.points[0])
            targets = np.stack([resized(frame, model.params.size) for frame in driver.frames])
            measure(crossed, outputs, targets, driver.points, like=like)
        row = row_of(crossed)
        wanted = ("csim", "rotation_deg", "yaw_r", "mouth_r", "eye_r", "lost", "frames")
        report["cross"] = {options.model: {key: row[key] for key in wanted}}
        show(report["cross"], "cross-identity")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.sheet:
        write_image(options.sheet, contact_sheet(sheet))


def resized(image: Array, size: int) -> Array:
    """A frame at the model's size."""
    if image.shape[0] == size:
        return image
    return to_uint8(F.interpolate(to_tensor(image)[None], size=(size, size), mode="area"))[0]


if __name__ == "__main__":
    main()
