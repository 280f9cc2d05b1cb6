"""Reports side by side: only fair comparisons, and the results page is what the stored reports say."""

import json
import math
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmfa.errors import ConfigError, MediaError
from mmfa.evaluate.definitions import METRICS
from mmfa.evaluate.figures import Figure
from mmfa.evaluate.leakage import LEAKS
from mmfa.evaluate.report import DASH, Report
from mmfa.evaluate.tables import compare, results_page

ROOT = Path(__file__).parents[2]


def report(subject: str, *, psnr: float = 20.0, akd: float = 2.0, **changes: Any) -> Report:
    figures = [
        Figure(METRICS[name].definition, "driving frames", None, value, value - 1, value + 1, 100, 4, 0)
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
    assert f"| `akd_l1_mesh68` ↓ | px | **2** (1 to 3) | {DASH} |" in table
    unknown = replace(other.figures[0], value=math.nan, low=math.nan, high=math.nan)
    assert f"| `psnr` ↑ | dB | **20** (19 to 21) | {DASH} |" in compare(
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
    other: dict[str, Any] = {field: "something else"}
    changed = replace(one.figures[1], definition=replace(one.figures[1].definition, **other))
    with pytest.raises(ConfigError, match=f"akd_l1_mesh68 differs in its {field}, .* and 'something else'"):
        compare([one, replace(one, figures=(one.figures[0], changed))], names=["one", "two"])


def test_other_versions_of_an_extractor_are_refused() -> None:
    one = report("one")
    changed = replace(one.figures[0], version="2.0")
    with pytest.raises(ConfigError, match=r"psnr differs in its extractor's version, None and '2\.0'"):
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


def test_tables_are_grouped_named_and_ordered_by_the_layout(stored: Path) -> None:
    """Each table is fair in itself; a row whose report isn't there yet is left out."""
    for label, psnr in (("ablation-base", 14.0), ("ablation-all", 15.0)):
        report(label, stride=8, psnr=psnr).save(stored / f"{label}-same.json")
    main = {"heading": "", "note": "", "rows": {"lite": "lite 0.2", "copy": "copying the source", "lite-old": "earlier"}}
    rows = {"ablation-base": "base", "ablation-ssl": "base + L_ssl", "ablation-all": "all three"}
    ablation = {"heading": "Ablation, tiny", "note": "600 steps, equal budget", "rows": rows}
    report("ablation", stride=8, psnr=14.5).save(stored / "ablation-ssl-same.json")
    (stored / "tables.json").write_text(json.dumps([main, ablation]))
    page = results_page(stored)
    first, second = page.split("## Cross-identity")[0].split("### Ablation, tiny\n\n600 steps, equal budget\n")
    assert first.index("| lite 0.2 | **23**") < first.index("| copying the source | ") and "base" not in first
    assert "earlier" not in page and "every 8th frame" in second
    assert second.index("| base | 14 (") < second.index("| base + L_ssl | 14.5 (") < second.index("| all three | **15** (")
    assert "lite 0.2" in page.split("## Cross-identity")[1] and "Ablation" not in page.split("## Cross-identity")[1]
    report("new").save(stored / "new-same.json")
    with pytest.raises(MediaError, match=r"tables\.json puts new into no table"):
        results_page(stored)
    for text in ("{", "[1]", '[{"heading": "x"}]', '[{"heading": "", "note": "", "rows": 3}]'):
        (stored / "tables.json").write_text(text)
        with pytest.raises(MediaError, match=r"tables\.json is no list of tables"):
            results_page(stored)


def test_the_nearest_to_its_ideal_is_the_best() -> None:
    def leaking(name: str, slope: float) -> Report:
        figure = Figure(LEAKS["slider_slope"], "what was asked", None, slope, slope - 0.1, slope + 0.1, 100, 3, 0)
        return report(name).with_figures([figure])

    reports = [leaking("one", 1.05), leaking("two", 0.85), leaking("three", 1.3)]
    table = compare(reports, names=["one", "two", "three"])
    assert "| `slider_slope` → 1 | 1 | **1.05** (0.95 to 1.15) | 0.85 (0.75 to 0.95) | 1.3 (1.2 to 1.4) |" in table
    assert [LEAKS["slider_slope"].passes(item.leaks[0].value) for item in reports] == [True, False, False]


def test_the_results_page_refuses_what_does_not_belong_together(stored: Path) -> None:
    report("lite", stride=5).save(stored / "new-same.json")
    with pytest.raises(ConfigError, match=r"copy and new can't be compared: their stride"):
        results_page(stored)
    (stored / "new-same.json").rename(stored / "new.json")
    with pytest.raises(MediaError, match=r"new\.json is a report of the protocol same; name it LABEL-same\.json"):
        results_page(stored)
    (stored / "new.json").unlink()
    published = json.loads((stored / "published.json").read_text())
    published["rows"][0]["values"].pop()
    (stored / "published.json").write_text(json.dumps(published))
    with pytest.raises(MediaError, match="FOMM has 10 values for 11 columns"):
        results_page(stored)


def test_docs_are_what_the_stored_reports_say() -> None:
    pages = runpy.run_path(str(ROOT / "tools" / "results.py"))["pages"]()
    assert [path.relative_to(ROOT).as_posix() for path in pages] == ["docs/results.md", "research/results.md"]
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, "run python tools/results.py"
