"""How far what a face does arrives in the picture: the measures of `mmfa.expressions` in the output against the driver's.

    python -m benchmarks.gains DATA --cache CACHE [--model lite] [--split val] [--frames 12]

DATA is a folder of face-crop clips; CACHE keeps their tracked landmarks, as `mmfa train` does. The first frame of each person's
first clip is animated by `frames` others, evenly from the same clip; the truth is the driving frame itself. The same network
finds the landmarks of both.

pictures   slope of the measure in the output against the driver's, each person's mean removed; 1 is all of it
r          their correlation
warped     the slope in the photo moved by the flow of the face, nothing painted: what that network reads of it
keypoints  the same slope on the model's own keypoints, x_c + D_exp(f, x_c): what is lost before anything is drawn
spread     standard deviation of the measure in the driving frames, within people, over the distance of the outer eye corners
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.options import ALWAYS, parse, parser, run, save
from mmfa.expressions import NAMES, keypoint_measures, measures
from mmfa.geometry import resize_grid, warp
from mmfa.media.image import to_uint8
from mmfa.models.lite.model import FaceSource, LiteMMFA
from mmfa.nets.dense_motion import FaceFlow
from mmfa.priors.detector import FaceDetector
from mmfa.priors.landmarks import FaceLandmarker, FaceTracker
from mmfa.priors.pose import head_pose, normalise
from mmfa.train.cache import prepare
from mmfa.train.data import Clip, ClipDataset, face_of
from mmfa.weights import from_pretrained


def measured(model: LiteMMFA, clip: Clip, frames: int, landmarker: FaceLandmarker, detector: FaceDetector) -> Tensor:
    """Measures (n,4,7) of driving frames, pictures, warped photos and keypoints, less their means; n without lost faces."""
    size = model.card.size
    index = [0, *torch.linspace(1, len(clip.landmarks) - 1, frames).long().tolist()]
    face = face_of(clip.images(index, size=size), clip.landmarks[index])
    source, driving = model.prepare(face[:1]), model.motion(face[1:])
    canonical = source.canonical.expand(frames, -1, -1)
    keypoints = keypoint_measures(canonical + model.expression_decoder(driving.expression, canonical)).stack()
    points = torch.full((frames, 2, *clip.landmarks.shape[1:]), torch.nan)
    for i in range(frames):
        rendering = model.render(source, driving[i : i + 1])
        assert isinstance(rendering.flow, FaceFlow) and isinstance(source, FaceSource)
        warped = warp(source.features.image, resize_grid(rendering.flow.image, *source.features.image.shape[-2:]))
        for kind, image in enumerate((rendering.images[-1], warped)):
            found = FaceTracker(landmarker=landmarker, detector=detector).track(to_uint8(image)[0])
            if found is not None:
                points[i, kind] = found.points
    kept = ~points.isnan().flatten(1).any(1)
    seen = [measures(normalise(one, head_pose(one))).stack() for one in points[kept].unbind(1)]
    rows = torch.stack([measures(face.mesh[1:]).stack()[kept], *seen, keypoints[kept]], 1)
    return rows - rows.mean(0)


@torch.no_grad()
def main() -> None:
    made = parser(__doc__, "data", "model", "split", "fps", *ALWAYS, cache={"required": True}, frames={"default": 12})
    options = parse(made)
    model, landmarker, detector = from_pretrained(options.model), FaceLandmarker(), FaceDetector()
    assert isinstance(model, LiteMMFA)
    files = prepare(options.data, options.cache, fps=options.fps, split=options.split, quiet=options.quiet)
    data = ClipDataset(files, size=model.card.size)
    clips = [clips[0] for clips in data.people.values()]
    rows = torch.cat([measured(model, clip, options.frames, landmarker, detector) for clip in clips])
    driver, pictures, warped, keypoints = rows.unbind(1)
    power = driver.square().sum(0)
    slopes = [(driver * other).sum(0) / power for other in (pictures, warped, keypoints)]
    correlation = (driver * pictures).sum(0) / (power * pictures.square().sum(0)).sqrt()
    print(f"{len(clips)} people, {len(rows)} frames of {options.model}\n")
    print("| | pictures | r | warped | keypoints | spread |\n|---|---|---|---|---|---|")
    figures = {}
    for i, name in enumerate(NAMES):
        values = [float(column[i]) for column in (slopes[0], correlation, slopes[1], slopes[2], driver.std(0))]
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values[:4]) + f" | {values[4]:.4f} |")
        figures[name] = dict(zip(("pictures", "r", "warped", "keypoints", "spread"), values, strict=True))
    save(options.json, {"model": options.model, "frames": len(rows), "measures": figures})


if __name__ == "__main__":
    run(main)
