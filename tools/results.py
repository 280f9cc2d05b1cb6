"""Write docs/results.md from the reports stored in results/, and research/results.md from those in research/results/.

    mmfa evaluate DATA -o reports/lite-same --model lite --leakage --workers 2
    cp reports/lite-same/report.json results/lite-same.json
    mmfa evaluate DATA -o reports/base --model runs/ablation-base/model --workers 2
    cp reports/base/report.json research/results/ablation-base-same.json
    python tools/results.py

A report is stored as LABEL-PROTOCOL.json (copy-same, lite-same, lite-cross, ablation-base-same ...): the last two releases in
results/, what is older, or answers a question of its own, in research/results/. The tables.json beside them says which labels
share a table, in which order, under which names and with which note. results/published.json holds the figures of papers with
their source.
"""

from __future__ import annotations

from pathlib import Path

from mmfa.evaluate.tables import results_page
from mmfa.media.files import atomic_output

ROOT = Path(__file__).parents[1]


def pages() -> dict[Path, str]:
    """The text of both pages."""
    return {
        ROOT / "docs" / "results.md": results_page(ROOT / "results"),
        ROOT / "research" / "results.md": results_page(ROOT / "research" / "results", place="research/results", pages="../docs/"),
    }


if __name__ == "__main__":
    for page, text in pages().items():
        with atomic_output(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
