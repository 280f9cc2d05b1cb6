"""What free keypoints have learnt: do they follow the face, is x_c the person's, does f know no pose? Figures and a sheet.

    python -m benchmarks.keypoints DATA --cache CACHE --model RUN/model [--split val] [--side 128] [--sheet sheet.png]

DATA is a folder of face-crop clips; CACHE keeps their frames and tracked landmarks, as `mmfa train` does (`--side` is the run's
`cached_side`). At most `--frames` frames of each clip are looked at, evenly. MODEL is a folder or the name of a size, untrained.

explained      share of the variance of 478 landmarks (x, y) within clips that a ridge regression from the keypoints' x, y tells,
               fitted to the other clips; each clip's means removed; all clips pooled
rotation       the same as `explained` from the nine numbers of R alone, which is the pose prior's: no training is needed for that
mouth_r        correlation of the mouth's opening within clips with what a ridge regression from the deformations d, fitted to the
               other clips, says of it; `eyes_r`: of the eyes' opening; `_f`: from f
scale_r        correlation of log s with the landmark pose's, each clip's mean removed; `_all`: over all frames, nothing removed
x_r, y_r       the same of t
consistency    `mmfa.evaluate.leakage.canonical_consistency`: spread of x_c within a person over that of people's means
cosine         mean cosine of f and f of the picture turned by up to 20 degrees and scaled by .8 to 1.25, over all frames, their
               mean f subtracted from both; `_raw`: nothing subtracted
change         root mean square change of d under these transforms over the root mean square of d around its clip's mean
between        mean over clips of the root mean square of (a clip's mean d less the mean of all) over that of d within clips
equivariance   L_E, sigma .05 and .005
deformation    mean over keypoints and frames of |d|_1
psnr           of the clip's frames driven from its first, mean of means of clips; `copy`: of the first frame itself; `warped`: of
               the first frame moved by the keypoints' flow alone
"""

from __future__ import annotations

import colorsys
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.options import ALWAYS, parse, parser, run, save
from mmfa.evaluate.leakage import canonical_consistency, canonical_rows
from mmfa.geometry import Bend, image_grid, resize_grid, similarity, transform_image, transform_points, warp
from mmfa.media.image import contact_sheet, to_uint8, write_image
from mmfa.models.mmfa import MMFA
from mmfa.nets.dense_motion import PaperFlow
from mmfa.portrait import FaceInput
from mmfa.priors.landmarks import eye_opening, mouth_opening
from mmfa.registry import build, params_of, sizes
from mmfa.train.board import canonical_motion
from mmfa.train.cache import prepare
from mmfa.train.data import Clip, ClipDataset, face_of
from mmfa.train.losses import deformation_loss, equivariance_loss
from mmfa.weights import from_pretrained

RIDGE = 1e-3
"""Of the mean variance of the keypoints' coordinates."""


def foretold(causes: list[Tensor], effects: list[Tensor], *, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
    """Effects (T,m) around their clip's mean, all clips in a row, and what a ridge regression from causes (T,n), fitted to the
    other clips, says of them. One of each a clip.
    """
    x = [(cause - cause.mean(0)).double() for cause in causes]
    y = [(effect - effect.mean(0)).double() for effect in effects]
    own, cross = [a.T @ a for a in x], [a.T @ b for a, b in zip(x, y, strict=True)]
    square, product = torch.stack(own).sum(0), torch.stack(cross).sum(0)
    penalty = (ridge * square.diag().mean() + 1e-12) * torch.eye(len(square)).double()
    said = [a @ torch.linalg.solve(square - s + penalty, product - p) for a, s, p in zip(x, own, cross, strict=True)]
    return torch.cat(y), torch.cat(said)


def explained(causes: list[Tensor], effects: list[Tensor]) -> float:
    """Share of the variance of effects that `foretold` tells."""
    wanted, said = foretold(causes, effects)
    return 1 - float((wanted - said).square().sum() / wanted.square().sum())


def agreement(causes: list[Tensor], effects: list[Tensor]) -> float:
    """Correlation of effects (T,1) with what `foretold` says of them, with a penalty for many weak causes."""
    return float(torch.corrcoef(torch.cat(foretold(causes, effects, ridge=0.1), 1).T)[0, 1])


def correlation(a: list[Tensor], b: list[Tensor], *, within: bool) -> float:
    """Of two numbers (T,), one of each a clip; `within`: each clip's mean removed."""
    first, second = (torch.cat([part - part.mean() if within else part for part in parts]) for parts in (a, b))
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def face(clip: Clip, size: int, count: int) -> tuple[FaceInput, Tensor]:
    """At most `count` frames, evenly, and their landmarks."""
    frames = torch.linspace(0, clip.length - 1, min(count, clip.length)).round().long().tolist()
    points = clip.points(frames)
    return face_of(clip.images(frames, size=size), points), points


def measure(model: MMFA, clips: list[Clip], people: list[str], *, frames: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    rows: dict[str, list[Tensor]] = {}

    def keep(**values: Tensor) -> None:
        for name, value in values.items():
            rows.setdefault(name, []).append(value)

    for clip in clips:
        faces, points = face(clip, model.params.size, frames)
        count = len(points)
        reading = model.read(faces)
        placed, deformation = model.keypoints(reading.canonical, reading.motion)
        angle, zoom = (2 * torch.rand(2, count, generator=generator) - 1).unbind()
        turn = similarity(20 * angle, 1.25**zoom, torch.zeros(count, 2))
        turned = face_of(transform_image(faces.image, turn), transform_points(points, turn))
        other = model.motion(turned).expression
        bend = Bend.of(torch.randn(count, Bend.NUMBERS, generator=generator))
        bent = model.read(face_of(bend.image(faces.image), bend.points(points)))
        source = model.prepare(faces[:1], reading=reading[:1]).expand(count - 1)
        rendering = model.render(source, reading.motion[slice(1, None)])
        assert isinstance(rendering.flow, PaperFlow)
        flow = resize_grid(rendering.flow.photo, model.params.size, model.params.size)
        keep(
            placed=placed[..., :2].flatten(1),
            landmarks=points[..., :2].flatten(1),
            rotation=faces.rotation.flatten(1),
            mouth=mouth_opening(faces.mesh)[:, None],
            eyes=eye_opening(faces.mesh)[:, None],
            deformation=deformation.flatten(1),
            changed=(model.expression_decoder(other, reading.canonical) - deformation).flatten(1),
            scale=reading.motion.scale[:, 0].log(),
            pose_scale=faces.scale[:, 0].log(),
            x=reading.motion.translation[:, 0],
            y=reading.motion.translation[:, 1],
            pose_x=faces.translation[:, 0],
            pose_y=faces.translation[:, 1],
            canonical=reading.canonical,
            f=reading.motion.expression,
            other=other,
            equivariance=equivariance_loss(placed, model.keypoints(bent.canonical, bent.motion)[0], bend.back)[None],
            size=deformation_loss(deformation)[None],
            psnr=psnr(rendering.images[-1], faces.image[1:]),
            warped=psnr(warp(faces.image[:1].expand(count - 1, -1, -1, -1), flow), faces.image[1:]),
            copy=psnr(faces.image[:1].expand(count - 1, -1, -1, -1), faces.image[1:]),
        )
    within = torch.cat([d - d.mean(0) for d in rows["deformation"]]).square().sum(1).mean().sqrt()
    means = torch.stack([d.mean(0) for d in rows["deformation"]])
    f, other = torch.cat(rows["f"]), torch.cat(rows["other"])
    cosine = torch.nn.functional.cosine_similarity
    own = {person: [c for c, p in zip(rows["canonical"], people, strict=True) if p == person] for person in dict.fromkeys(people)}
    figures = {
        "explained": explained(rows["placed"], rows["landmarks"]),
        "rotation": explained(rows["rotation"], rows["landmarks"]),
        **{f"{name}_r": agreement(rows["deformation"], rows[name]) for name in ("mouth", "eyes")},
        **{f"{name}_r_f": agreement(rows["f"], rows[name]) for name in ("mouth", "eyes")},
    }
    for name in ("scale", "x", "y"):
        figures[f"{name}_r"] = correlation(rows[name], rows[f"pose_{name}"], within=True)
        figures[f"{name}_r_all"] = correlation(rows[name], rows[f"pose_{name}"], within=False)
    return figures | {
        "consistency": canonical_consistency(canonical_rows([torch.cat(frames) for frames in own.values()]).numpy()),
        "cosine": float(cosine(f - f.mean(0), other - f.mean(0)).mean()),
        "cosine_raw": float(cosine(f, other).mean()),
        "change": float(torch.cat(rows["changed"]).square().sum(1).mean().sqrt() / within),
        "between": float((means - means.mean(0)).square().sum(1).mean().sqrt() / within),
        "equivariance": float(torch.cat(rows["equivariance"]).mean()),
        "deformation": float(torch.cat(rows["size"]).mean()),
        **{name: float(torch.stack([value.mean() for value in rows[name]]).mean()) for name in ("psnr", "warped", "copy")},
    }


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Of images (B,3,S,S) in [0,1]: (B,) dB."""
    return -10 * (a - b).square().mean((1, 2, 3)).log10()


def sheet(model: MMFA, clips: list[Clip], path: Path, *, side: int = 160, count: int = 10) -> None:
    """Columns: clips. Rows: source, the frame that differs most, output, both with keypoints, canonical face, crossed."""
    picked = [clips[i] for i in torch.linspace(0, len(clips) - 1, min(count, len(clips))).round().long().tolist()]
    far = [int((clip.points() - clip.points([0])).abs().mean((1, 2)).argmax()) for clip in picked]
    size = model.params.size
    source = FaceInput.concatenate([face_of(c.images([0], size=size), c.points([0])) for c in picked])
    driving = FaceInput.concatenate([face_of(c.images([i], size=size), c.points([i])) for c, i in zip(picked, far, strict=True)])
    made, motion = model.prepare(source), model.motion(driving)
    rendering = model.render(made, motion)
    turned = torch.arange(1, len(picked) + 1) % len(picked)

    def large(images: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(images, size=(side, side), mode="bicubic", align_corners=True).clamp(0, 1)

    rows = [
        large(source.image),
        large(driving.image),
        large(rendering.images[-1]),
        dots(large(source.image), made.keypoints),
        dots(large(driving.image), rendering.keypoints),
        large(model.render(made, canonical_motion(made.motion, keep_size=False)).images[-1]),
        large(model.render(made[turned], motion).images[-1]),
    ]
    write_image(path, contact_sheet([list(to_uint8(row)) for row in rows]))


def dots(images: Tensor, keypoints: Tensor, *, radius: float = 0.035) -> Tensor:
    """Images (B,3,S,S) with a disc of a hue of its own on every keypoint (B,K,>=2)."""
    images, grid = images.clone(), image_grid(*images.shape[-2:])
    for index in range(keypoints.shape[1]):
        colour = torch.tensor(colorsys.hsv_to_rgb(index / keypoints.shape[1], 1, 1))[:, None]
        for image, place in zip(images, keypoints[:, index, :2], strict=True):
            image[:, (grid - place).norm(dim=2) < radius] = colour
    return images


@torch.no_grad()
def main() -> None:
    made = parser(
        __doc__,
        *("data", "split", "fps", "seed", *ALWAYS),
        cache={"required": True},
        model={"default": "small", "help": "or the name of a size, untrained"},
        frames={"default": 24, "help": "of each clip, at most"},
    )
    made.add_argument("--side", type=int, default=0, help="of cached frames, in pixels; 0: as they are")
    made.add_argument("--sheet", type=Path, metavar="FILE", help="also write a contact sheet")
    options = parse(made)
    torch.manual_seed(options.seed)
    model = build(params_of(options.model)).eval() if options.model in sizes() else from_pretrained(options.model)
    assert isinstance(model, MMFA)
    files = prepare(options.data, options.cache, fps=options.fps, split=options.split, side=options.side, quiet=options.quiet)
    data = ClipDataset(files, size=model.params.size)
    figures = measure(model, data.clips, [clip.person for clip in data.clips], frames=options.frames)
    print("\n".join(f"{name:14} {value:8.3f}" for name, value in figures.items()))
    save(options.json, figures)
    if options.sheet:
        sheet(model, data.clips, options.sheet)


if __name__ == "__main__":
    run(main)
