"""Reports side by side: only fair comparisons, and the results page is what the stored reports say."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmfa.errors import ConfigError, MediaError
from mmfa.evaluate.definitions import DEFINITIONS
from mmfa.evaluate.figures import Figure
from mmfa.evaluate.report import Report
from mmfa.evaluate.tables import compare, results_page

ROOT = Path(__file__).parents[2]


def report(subject: str, *, psnr: float = 20.0, akd: float = 2.0, **changes: Any) -> Report:
    figures = [
        Figure(DEFINITIONS[name], "driving frames", None, value, value - 1, value + 1, 100, 4, 0)
        for name, value in (("psnr", psnr), ("akd_l1_mesh68", akd))
    ]
    common: dict[str, Any] = {
        "subject": subject, "kind": "model", "sha256": "a" * 64, "data": "data", "split": "val", "listing_sha256": "b" * 64,
        "protocol": "same", "stride": 2, "seed": 0, "clips": 4, "persons": 3, "frames": 100, "missed_generated": 0,
        "missed_driving": 0, "figures": tuple(figures), "unavailable": {"fid": "not here"}, "remarks": (),
    }  # fmt: skip
    return Report(**common | changes)


def test_one_table_with_the_best_in_bold() -> None:
    table = compare([report("one"), report("two", psnr=21.5, akd=3.25, remarks=("lossy",))], names=["one", "two"])
    lines = table.splitlines()
    assert "| `psnr` ↑ | dB | 20 (19 to 21) | **21.5** (20.5 to 22.5) |" in lines
    assert "| `akd_l1_mesh68` ↓ | px | **2** (1 to 3) | 3.25 (2.25 to 4.25) |" in lines
    assert lines[-1] == "- two: lossy"


def test_a_figure_that_one_report_lacks_is_a_dash() -> None:
    other = report("two")
    table = compare([report("one"), replace(other, figures=other.figures[:1])], names=["one", "two"])
    assert "| `akd_l1_mesh68` ↓ | px | **2** (1 to 3) | – |" in table
    unknown = replace(other.figures[0], value=math.nan, low=math.nan, high=math.nan)
    assert "| `psnr` ↑ | dB | **20** (19 to 21) | – |" in compare(
        [report("one"), replace(other, figures=(unknown,))], names=["one", "two"]
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol": "cross"}, "protocol differs, same and cross"),
        ({"stride": 1}, "stride differs, 2 and 1"),
        ({"seed": 7}, "seed differs, 0 and 7"),
        ({"split": "train"}, "split differs, val and train"),
        ({"listing_sha256": "c" * 64}, "data .* differs, bbbbbbbbbbbb... and cccccccccccc..."),
    ],
)
def test_unfair_comparisons_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"one and two can't be compared: .*{reason}"):
        compare([report("one"), report("two", **changes)], names=["one", "two"])


@pytest.mark.parametrize("field", ["definition", "unit", "extractor"])
def test_other_definitions_are_refused(field: str) -> None:
    one = report("one")
    changed = replace(one.figures[1], definition=replace(one.figures[1].definition, **{field: "something else"}))
    with pytest.raises(ConfigError, match=f"akd_l1_mesh68 differs in its {field}, .* and 'something else'"):
        compare([one, replace(one, figures=(one.figures[0], changed))], names=["one", "two"])


def test_other_versions_of_an_extractor_are_refused() -> None:
    one = report("one")
    changed = replace(one.figures[0], version="2.0")
    with pytest.raises(ConfigError, match="psnr differs in its extractor's version, None and '2.0'"):
        compare([one, replace(one, figures=(changed,))], names=["one", "two"])


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    (tmp_path / "published.json").write_bytes((ROOT / "results" / "published.json").read_bytes())
    report("ablation").save(tmp_path / "ablation-ssl-same.json")
    report("lite", psnr=23.0).save(tmp_path / "lite-same.json")
    report("copy-source", akd=9.0, kind="copy-source", sha256=None).save(tmp_path / "copy-same.json")
    report("lite", protocol="cross").save(tmp_path / "lite-cross.json")
    return tmp_path


def test_the_results_page_orders_its_rows_and_marks_what_is_published(stored: Path) -> None:
    page = results_page(stored)
    same, cross = page.split("## Cross-identity")
    assert same.index("| copy | ") < same.index("| lite | ") < same.index("| ablation-ssl | ")
    assert "| lite | **23** (22 to 24) | **2** (1 to 3) |" in same
    ours, published = cross.split("## Published figures")
    assert "copy" not in ours and "not comparable" in published
    assert "| MMFA | .106 | .974 | 22.898 |" in published


def test_the_results_page_refuses_what_does_not_belong_together(stored: Path) -> None:
    report("lite", stride=5).save(stored / "new-same.json")
    with pytest.raises(ConfigError, match="copy and new can't be compared: their stride"):
        results_page(stored)
    (stored / "new-same.json").rename(stored / "new.json")
    with pytest.raises(MediaError, match="new.json is a report of the protocol same; name it LABEL-same.json"):
        results_page(stored)
    (stored / "new.json").unlink()
    published = json.loads((stored / "published.json").read_text())
    published["rows"][0]["values"].pop()
    (stored / "published.json").write_text(json.dumps(published))
    with pytest.raises(MediaError, match="FOMM has 10 values for 11 columns"):
        results_page(stored)


def test_docs_are_what_the_stored_reports_say() -> None:
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == results_page(ROOT / "results")
