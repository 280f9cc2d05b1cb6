"""The correction of x_c by what a face looks like: steadier than the mesh's own word, and no less right."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmfa.errors import ConfigError
from mmfa.evaluate.leakage import canonical_consistency, canonical_rows
from mmfa.models.lite import tiny
from mmfa.models.lite.model import LiteMMFA
from mmfa.train.anchoring import IdentityMap, anchor
from mmfa.train.cache import prepare
from mmfa.train.data import ClipDataset, face_of
from mmfa.train.looks import Looks, correction, fit_looks

DIRECTIONS, TOGETHER = 3, 40


def people(count: int, *, seed: int) -> tuple[Looks, Tensor]:
    """Meshes in which a shape of three numbers drowns in expressions, looks that know the person well; and the shapes."""
    shared, own = torch.Generator().manual_seed(7), torch.Generator().manual_seed(seed)
    shapes = torch.randn(count, DIRECTIONS, generator=own)
    person = torch.arange(count).repeat_interleave(24)

    def blend(rows: Tensor, length: int) -> Tensor:
        return rows @ torch.randn(rows.shape[1], length, generator=shared) / length**0.5

    mesh = blend(shapes[person] + 0.8 * torch.randn(len(person), DIRECTIONS, generator=own), 90)
    traits = torch.cat([shapes, torch.randn(count, 4, generator=own)], 1)[person]
    looks = 5 + blend(traits, TOGETHER) + 0.5 * blend(torch.randn(len(person), 7, generator=own), TOGETHER)
    return Looks(mesh, looks, person), shapes


def test_people_never_seen_get_steadier_shapes_that_are_nearer_the_truth() -> None:
    seen, shapes = people(200, seed=1)
    read = torch.linalg.lstsq(seen.mesh, shapes[seen.person]).solution
    identity = IdentityMap(torch.zeros(30, 3), read, torch.zeros(DIRECTIONS, 90))
    weight, bias = correction(seen, identity, torch.zeros(30, 3))
    others, truth = people(60, seed=2)
    alone = others.mesh @ read
    both = alone + torch.cat([others.mesh, others.looks], 1) @ weight.T + bias

    def spread(values: Tensor) -> float:
        rows = [values[others.person == one][:, None] for one in range(60)]
        return canonical_consistency(canonical_rows(rows).numpy())

    assert spread(both) < 0.7 * spread(alone)
    wrong = [float((values - truth[others.person]).square().mean()) for values in (alone, both)]
    assert wrong[1] < 0.8 * wrong[0]


def test_fitted_on_clips_it_moves_x_c_of_pictures_and_of_nothing_else(clips: Path, cache: Path) -> None:
    data = ClipDataset(prepare(clips, cache, fps=25.0), size=64)
    torch.manual_seed(0)
    model = LiteMMFA(replace(tiny(), canonical=replace(tiny().canonical, directions=2)))
    model.anchor(data.mean_mesh())
    with pytest.raises(ConfigError, match="anchor the model anew"):
        fit_looks(model, data, quiet=True)
    anchor(model, data, steps=2, batch=8, seed=0, quiet=True)
    model.eval()
    clip = data.clips[0]
    blind = face_of(torch.zeros(3, 0), clip.landmarks[:3])
    with torch.no_grad():
        before = model.canonical(blind)
        fit_looks(model, data, quiet=True)
        torch.testing.assert_close(model.canonical(blind), before)
        seen = model.canonical(face_of(clip.images([0, 1, 2], size=64), clip.landmarks[:3]))
    assert bool(seen.isfinite().all()) and 1e-5 < float((seen - before).abs().mean()) < 0.1
