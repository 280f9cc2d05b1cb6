"""Write docs/results.md from the reports stored in results/.

    mmfa evaluate DATA -o reports/lite-same --model lite --leakage --workers 2
    cp reports/lite-same/report.json results/lite-same.json
    mmfa evaluate DATA -o reports/base --model runs/ablation-base/model --workers 2
    cp reports/base/report.json results/ablation-base-same.json
    python tools/results.py

A report is stored as results/LABEL-PROTOCOL.json (copy-same, lite-same, lite-cross, ablation-base-same ...).
results/tables.json says which labels share a table, in which order, under which names and with which note.
results/published.json holds the figures of papers with their source.
"""

from __future__ import annotations

from pathlib import Path

from mmfa.evaluate.tables import results_page
from mmfa.media.files import atomic_output

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    with atomic_output(ROOT / "docs" / "results.md") as temporary:
        temporary.write_text(results_page(ROOT / "results"), encoding="utf-8")
