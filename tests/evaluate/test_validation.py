"""Every row of the validation tables in docs/metrics.md."""

from mmfa.evaluate.appearance import AppearanceMeasurer
from mmfa.evaluate.extractors import FaceMeasurer
from mmfa.evaluate.validation import known_changes, known_surroundings, orders


def test_known_changes_are_answered(faces: FaceMeasurer) -> None:
    checks = list(known_changes(faces))
    assert len(checks) == 20 and [check for check in checks if not check.passed] == []


def test_what_is_drawn_around_a_face_is_seen_there(faces: FaceMeasurer, appearance: AppearanceMeasurer) -> None:
    checks = list(known_surroundings(faces, appearance))
    assert {check.metric for check in checks} == {"ring_psnr", "ring_sharpness", "ghost"}
    assert len(checks) == 6 and [check for check in checks if not check.passed] == []


def test_worse_frames_measure_worse(faces: FaceMeasurer, appearance: AppearanceMeasurer) -> None:
    rows = list(orders(faces, appearance))
    assert len({order.metric for order in rows}) >= 8 and len(rows) >= 15 and [order for order in rows if not order.passed] == []
