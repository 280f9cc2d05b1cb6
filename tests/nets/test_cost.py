import pytest
import torch

from mmfa.cost import cost, format_table, total_per_driving_frame
from mmfa.models.lite import lite, tiny
from mmfa.models.lite.model import LiteMMFA
from mmfa.models.paper import paper
from mmfa.priors.landmarks import FaceLandmarker
from mmfa.registry import build

BUDGET = 2.5e9


@pytest.fixture(scope="module")
def landmarker():
    return FaceLandmarker()


def test_a_lite_driving_frame_stays_within_its_budget(landmarker):
    model = LiteMMFA(lite())
    costs = cost(model, landmarker=landmarker)
    assert 1e9 < total_per_driving_frame(costs) <= BUDGET
    assert sum(c.parameters for c in costs[1:]) == sum(p.numel() for p in model.parameters())


def test_paper_networks_have_the_published_sizes(landmarker):
    """Against the layer tables of the Face-vid2vid re-implementation: parameters in M and GMAC at 256 x 256."""
    with torch.device("meta"):
        model = build(paper())
    found = {c.name: (c.parameters / 1e6, c.macs / 1e9) for c in cost(model, landmarker=landmarker)}
    assert found["appearance"] == pytest.approx((0.84, 32.6), rel=0.02)
    assert found["canonical_detector"] == pytest.approx((41.9, 19.3), rel=0.02)
    assert found["expression_encoder"] == pytest.approx((30.3, 7.8), rel=0.02)
    assert found["dense_motion"][0] == pytest.approx(43.6, rel=0.02)


def test_a_layer_counted_by_hand(landmarker):
    costs = {c.name: c for c in cost(LiteMMFA(tiny()), landmarker=landmarker)}
    hidden = tiny().affine.hidden[0]
    assert costs["affine"].macs == 478 * 3 * hidden + hidden * 3
    assert costs["landmarks (frozen)"].macs > 1e7


def test_table_lists_every_network_and_the_total(landmarker):
    costs = cost(LiteMMFA(tiny()), landmarker=landmarker)
    lines = format_table(costs).splitlines()
    assert len(lines) == len(costs) + 2
    assert all(c.name in line for c, line in zip(costs, lines[1:], strict=False))
    assert lines[-1].startswith("total")
