"""Record MediaPipe's own outputs on scikit-image's astronaut picture, for tests/priors.

    python -m venv mpvenv && mpvenv/bin/pip install mediapipe==0.10.21 pillow
    mpvenv/bin/python tools/reference_landmarks.py .../skimage/data/astronaut.png

Development only. The picture (public domain, NASA) goes through the original graphs: the short-range face
detector, and the attention mesh as a video of two equal frames, so that the region of the second result is
known: it comes from the first result.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import mediapipe
import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parents[1] / "tests" / "priors" / "reference_astronaut.json"


def main() -> None:
    parser = argparse.ArgumentParser(description="Record MediaPipe's outputs on the astronaut picture.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    image = np.array(Image.open(args.image).convert("RGB"))
    height, width = image.shape[:2]
    with mediapipe.solutions.face_detection.FaceDetection(model_selection=0) as detector:
        detection = detector.process(image).detections[0]
    box = detection.location_data.relative_bounding_box
    passes = []
    with mediapipe.solutions.face_mesh.FaceMesh(refine_landmarks=True, max_num_faces=1) as mesh:
        for _ in range(2):
            points = mesh.process(image).multi_face_landmarks[0].landmark
            passes.append([[round(p.x * width, 4), round(p.y * height, 4), round(p.z * width, 4)] for p in points])
    reference = {
        "source": f"mediapipe {mediapipe.__version__} on scikit-image astronaut.png, pixels",
        "size": [height, width],
        "box": [
            box.xmin * width,
            box.ymin * height,
            (box.xmin + box.width) * width,
            (box.ymin + box.height) * height,
        ],
        "score": detection.score[0],
        "first": passes[0],
        "second": passes[1],
    }
    args.out.write_text(json.dumps(reference, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
