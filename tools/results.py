"""Write docs/results.md from the reports stored in results/.

    mmfa evaluate DATA -o /tmp/lite-same --model lite --stride 2 --workers 2
    cp /tmp/lite-same/report.json results/lite-same.json
    python tools/results.py

A report is stored as results/LABEL-PROTOCOL.json (copy-same, lite-same, lite-cross, ablation-ssl-same ...); its label is its row.
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
