"""Same-identity reconstruction on the validation people: the first frame drives the rest of each clip.

    python benchmarks/quality.py DATA --model lite [--stride 8] [--sheet sheet.png]

DATA is a folder of 256 x 256 face-crop clips with an index.json that names the split "val". Every `stride`-th frame of each
clip is measured, at the model's size, on lossless frames. Rows: copying the source, the untrained model, the model.

psnr               dB, mean over frames of the PSNR over all pixels
landmark_px        mean distance over the 478 landmarks detected in output and driving frame, in pixels of 256
landmark_to_copy   landmark_px over that of copying the source
yaw_r, mouth_r, eye_r   Pearson correlation, over all frames with each clip's own mean removed, of what is measured in the
                   output with what is measured in the driving frame: head yaw, mouth opening, eye opening
sharpness          mean variance of the Laplacian of the output's luma over that of the driving frames
lost               frames in which no face is detected
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

from mmfa.faces import PixelFace, face_input
from mmfa.geometry import matrix_to_euler
from mmfa.media.crop import CropBox
from mmfa.media.image import Array, contact_sheet, to_tensor, to_uint8, write_image
from mmfa.media.video import VideoReader
from mmfa.nets.mmfa import MMFA
from mmfa.priors.landmarks import FaceLandmarker, FaceTracker, eye_opening, mouth_opening
from mmfa.priors.pose import head_pose
from mmfa.weights import build, from_pretrained

LANDMARKER = FaceLandmarker()


@dataclass
class Measures:
    psnr: list[float] = field(default_factory=list)
    landmark_px: list[float] = field(default_factory=list)
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


def measure(into: Measures, outputs: Array, targets: Array, points: list[torch.Tensor]) -> None:
    """One clip: outputs and targets (T,S,S,3) uint8, landmarks of the targets."""
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
        into.landmark_px.append(float((found.points - wanted)[:, :2].norm(dim=1).mean()) * half)
        measured, asked = attributes(found.points), attributes(wanted)
        for name, row in rows.items():
            row.append((measured[name], asked[name]))
    for name, row in rows.items():
        if row:
            centred = np.array(row) - np.mean(row, 0)
            into.followed[name] += [(float(x), float(y)) for x, y in centred]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = from_pretrained(options.model)
    untrained = build("lite").eval()
    untrained.anchor(model.mean_mesh)
    candidates: dict[str, MMFA | None] = {"copy the source": None, "untrained": untrained, options.model: model}
    results = {name: Measures() for name in candidates}
    index = json.loads((options.data / "index.json").read_text())["clips"]
    clips = [clip for clip in index if clip["split"] == "val"]
    size = model.params.size
    sheet: list[list[Array]] = []
    people: set[str] = set()
    for clip in tqdm(clips, unit="clip"):
        tracker = FaceTracker(landmarker=LANDMARKER)
        frames, points, faces = [], [], []
        with VideoReader(options.data / clip["file"]) as video:
            for number, frame in enumerate(video):
                tracked = tracker.track(frame.image)
                if number % options.stride or tracked is None or tracked.lost:
                    continue
                frames.append(frame.image)
                points.append(tracked.points)
                box = CropBox(frame.image.shape[1] / 2, frame.image.shape[0] / 2, frame.image.shape[0])
                faces.append(face_input(frame.image, PixelFace.of(tracked, frame.image), box, size=size))
        if len(frames) < 2:
            continue
        for name, candidate in candidates.items():
            outputs = []
            if candidate is None:
                outputs = [frames[0]] * (len(frames) - 1)
            else:
                source = candidate.source(faces[0])
                for face in faces[1:]:
                    outputs.append(to_uint8(candidate.render(source, candidate.motion(face)).images[-1])[0])
            measure(results[name], np.stack(outputs), np.stack(frames[1:]), points[1:])
        if options.sheet and clip["person"] not in people and len(people) < 10:
            people.add(clip["person"])
            picks = np.linspace(0, len(outputs) - 1, 4).astype(int)
            sheet.append([frames[0], *[image for i in picks for image in (frames[1 + i], outputs[i])]])
    copy = float(np.mean(results["copy the source"].landmark_px))
    rows = {}
    for name, result in results.items():
        row = {"psnr": np.mean(result.psnr), "landmark_px": np.mean(result.landmark_px)}
        row["landmark_to_copy"] = row["landmark_px"] / copy
        for key, pairs in result.followed.items():
            a, b = np.array(pairs).T
            row[f"{key}_r"] = float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-9 else float("nan")
        row |= {"sharpness": np.mean(result.sharpness), "lost": result.lost, "frames": len(result.psnr)}
        rows[name] = {key: round(float(value), 4) for key, value in row.items()}
    header = list(rows[options.model])
    print("| model | " + " | ".join(header) + " |\n|" + "---|" * (len(header) + 1))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[key]:g}" for key in header) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    if options.sheet:
        write_image(options.sheet, contact_sheet(sheet))


if __name__ == "__main__":
    main()
