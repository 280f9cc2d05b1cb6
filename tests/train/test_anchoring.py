"""Stage 0: x_c tells people apart and stays put, expressions change hands without the shape, the eyes keep their distance."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from mmfa.models.lite import tiny
from mmfa.models.lite.model import LiteMMFA
from mmfa.models.mmfa import MMFA
from mmfa.motion import Motion, compose
from mmfa.nets.anchors import COUNT, VERTICES
from mmfa.nets.canonical import MeshCanonicalDetector, MeshCanonicalParams
from mmfa.portrait import FaceInput
from mmfa.priors.groups import mouth_opening
from mmfa.priors.pose import head_pose, normalise, template
from mmfa.train.anchoring import EYE_CORNERS, Draw, Shapes, anchor, anchor_losses, fit_identity
from mmfa.train.data import Clip, face_of

PEOPLE, FRAMES, STEPS = 12, 24, 200


def landmarks(people: int, *, seed: int) -> Tensor:
    """(P,T,478,3): the template, bent in nine ways as a person is; a jaw that drops as a frame wants; a little noise."""
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.cat([template()[0], torch.zeros(10, 3)])
    vertices[468:] = vertices[[33] * 5 + [263] * 5]
    waves = torch.stack([(2 * vertices).sin(), (3 * vertices).cos(), (4 * vertices).sin()])
    amounts = 0.03 * torch.randn(3, people, 1, 1, 3, generator=generator)
    shapes = vertices + (amounts * waves[:, None, None]).sum(0)
    jaw = torch.zeros(478, 3)
    jaw[:, 1] = (vertices[:, 1] - vertices[13, 1]).clamp(min=0)
    jaw[13] = 0
    drop = torch.rand(people, FRAMES, 1, 1, generator=generator)
    noise = 0.002 * torch.randn(people, FRAMES, 478, 3, generator=generator)
    return 0.5 * (shapes + drop * jaw + noise)


def dataset(people: int = PEOPLE, *, seed: int = 0) -> SimpleNamespace:
    """What anchoring asks of a `ClipDataset`."""
    found = {}
    for number, points in enumerate(landmarks(people, seed=seed)):
        mesh = normalise(points, head_pose(points))
        found[str(number)] = [Clip(Path(), str(number), len(points), (points, mesh))]
    return SimpleNamespace(people=found)


def fresh(data: SimpleNamespace) -> MMFA:
    torch.manual_seed(0)
    model = LiteMMFA(tiny())
    model.anchor(torch.stack([clips[0].mesh.mean(0) for clips in data.people.values()]).mean(0))
    return model


def run(model: MMFA, data: SimpleNamespace, steps: int) -> None:
    anchor(model, data, steps=steps, batch=48, seed=0, quiet=True)  # type: ignore[arg-type]
    model.eval()


@pytest.fixture(scope="module")
def anchored() -> MMFA:
    data = dataset()
    model = fresh(data)
    run(model, data, STEPS)
    return model


def spreads(points: Tensor) -> tuple[float, float]:
    """Within and between people of (P,T,K,3), root mean squares over keypoints."""
    within = points.var(1).sum((1, 2)).mean().sqrt()
    return float(within), float(points.mean(1).var(0).sum().sqrt())


@torch.no_grad()
def test_canonical_keypoints_stay_put_on_people_never_seen(anchored) -> None:
    points = landmarks(8, seed=1)
    faces = face_of(torch.zeros(8 * FRAMES, 0), points.flatten(0, 1))
    meshes = faces.mesh.unflatten(0, (8, FRAMES))[:, :, list(VERTICES)]
    within, between = spreads(meshes)
    own_within, own_between = spreads(anchored.canonical(faces).unflatten(0, (8, FRAMES)))
    assert own_within / own_between < 0.3 * within / between
    assert own_between > 0.6 * between


@torch.no_grad()
def test_another_persons_mouth_opens_the_lips_as_far(anchored) -> None:
    """With another person's expression alone."""
    points = landmarks(2, seed=2)
    source, driver = (face_of(torch.zeros(FRAMES, 0), part) for part in points)
    canonical = anchored.canonical(source[:1]).expand(FRAMES, -1, -1)
    placed = canonical + anchored.expression_decoder(anchored.motion(driver).expression, canonical)
    a, b = EYE_CORNERS
    eyes = (placed[:, a] - placed[:, b]).norm(dim=1)
    gap = placed[:, VERTICES.index(14), 1] - placed[:, VERTICES.index(13), 1]
    opened = mouth_opening(points[1])
    slope = torch.cov(torch.stack([opened, gap / eyes.mean()]))
    assert 0.7 < float(slope[0, 1] / slope[0, 0]) < 1.3


class Ideal:
    """Knows everybody's neutral shape; the expression is the change from it.

    One that carries places the driver's own mesh. One that breathes makes the head larger by `breath` and the face smaller.
    """

    params = tiny()

    def __init__(self, drawn: Draw, *, carries: bool = False, breath: Tensor | float = 1.0) -> None:
        self.drawn, self.carries, self.breath = drawn, carries, breath

    def canonical(self, face: FaceInput) -> Tensor:
        points = torch.zeros(len(face.mesh), COUNT, 3)
        points[:, : len(VERTICES)] = self.drawn.neutral[:, list(VERTICES)]
        return points

    def motion(self, face: FaceInput) -> Motion:
        neutral = self.drawn.neutral.repeat(2, 1, 1)
        expression = (self.drawn.clean if self.carries else self.drawn.clean - neutral).flatten(1)
        scale = face.scale * self.breath
        return Motion(rotation=face.rotation, scale=scale, translation=face.translation, expression=expression)

    def keypoints(self, canonical: Tensor, motion: Motion) -> tuple[Tensor, Tensor]:
        change = torch.zeros_like(canonical)
        change[:, : len(VERTICES)] = motion.expression.unflatten(1, (-1, 3))[:, list(VERTICES)]
        deformation = change - canonical if self.carries else change
        if isinstance(self.breath, Tensor):
            given = self.breath.repeat(2, 1)[: len(canonical)]  # a driver of the exchange breathes as the second faces do
            given[len(self.breath) :] = self.breath[len(self.breath) // 2 :].roll(self.drawn.shift, 0)
            deformation = (canonical + deformation) / given[:, :, None] - canonical
        return compose(canonical, deformation, motion), deformation


def test_only_an_expression_that_brings_no_shape_costs_nothing() -> None:
    data = dataset()
    drawn = Draw.of(data, Shapes.of(data), 16, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    ideal, carrying = Ideal(drawn), Ideal(drawn, carries=True)
    good = anchor_losses(ideal, ideal, drawn)  # type: ignore[arg-type]
    bad = anchor_losses(carrying, carrying, drawn)  # type: ignore[arg-type]
    assert all(float(good[name]) < 1e-6 for name in ("keypoint", "swap", "free"))
    assert float(bad["keypoint"]) < 1e-6 and float(bad["swap"]) > 0.005


def test_only_a_face_that_keeps_its_size_under_the_scale_costs_nothing() -> None:
    """A scale that breathes and a deformation that undoes it place every keypoint rightly."""
    data = dataset()
    drawn = Draw.of(data, Shapes.of(data), 16, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    breath = torch.ones(32, 1)
    breath[16:] = 1.1
    ideal, breathing = Ideal(drawn), Ideal(drawn, breath=breath)
    good = anchor_losses(ideal, ideal, drawn)  # type: ignore[arg-type]
    bad = anchor_losses(breathing, ideal, drawn)  # type: ignore[arg-type]
    assert all(float(bad[name]) < 1e-6 for name in ("keypoint", "swap", "scale"))
    assert float(bad["size"]) > float(good["size"]) + 0.05


def test_a_mean_open_mouth_is_no_shape() -> None:
    data = dataset()
    openness = torch.linspace(0, 1, PEOPLE)  # who is filmed with an open mouth
    for wide, clips in zip(openness, data.people.values(), strict=True):
        order = mouth_opening(clips[0].landmarks).argsort()
        kept = order[round(float(wide) * 12) :][:12].tolist()
        clips[0] = replace(clips[0], length=12, held=(clips[0].points(kept), clips[0].meshes(kept)))
    means = torch.stack([clips[0].mesh.mean(0) for clips in data.people.values()])
    spread = [float((shapes[:, 14, 1] - shapes[:, 13, 1]).std()) for shapes in (means, Shapes.of(data).neutral)]  # type: ignore[arg-type]  # a stand-in
    assert spread[1] < 0.4 * spread[0], spread


def test_one_person_has_the_mean_shape() -> None:
    data = dataset(1)
    fitted = fit_identity(Shapes.of(data))  # type: ignore[arg-type]
    model = fresh(data)
    run(model, data, 1)
    assert bool(fitted.read.isfinite().all())
    with torch.no_grad():
        points = model.canonical(face_of(torch.zeros(FRAMES, 0), landmarks(1, seed=0)[0]))
    assert float(points.std(0).max()) < 1e-4


def test_the_head_is_the_map() -> None:
    generator = torch.Generator().manual_seed(0)
    detector = MeshCanonicalDetector(replace(MeshCanonicalParams(), keypoints=5, mesh_points=7))
    read, bias = torch.randn(21, 3, generator=generator), torch.randn(3, generator=generator)
    write, centre = torch.randn(3, 5, 3, generator=generator), torch.randn(5, 3, generator=generator)
    detector.set_linear(read, bias, write, centre)
    mesh = torch.randn(4, 7, 3, generator=generator)
    wanted = centre + torch.einsum("bk,kpi->bpi", mesh.flatten(1) @ read + bias, write)
    torch.testing.assert_close(detector(mesh), wanted, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="130 hidden units"):
        detector.set_linear(torch.zeros(21, 65), torch.zeros(65), torch.zeros(65, 5, 3), centre)
