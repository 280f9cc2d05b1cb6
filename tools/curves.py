"""The curves of a training run as one SVG, a panel a loss, each a running mean.

`python tools/curves.py runs/lite-256/log.jsonl -o docs/curves.svg [--window 15]`
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

WIDTH, HEIGHT, GAP, COLUMNS = 250, 120, 34, 3
SKIPPED = {"step", "seconds", "samples_per_second", "total"}
FORMER = {"judge": "discriminator"}  # columns of logs of 0.6.0 and before


def panels(lines: list[dict[str, float]], window: int) -> dict[str, list[tuple[float, float]]]:
    """Points (step, running mean) of each loss."""
    lines = [{FORMER.get(name, name): value for name, value in line.items()} for line in lines]
    found: dict[str, list[tuple[float, float]]] = {}
    for name in dict.fromkeys(key for line in lines for key in line if key not in SKIPPED):
        seen = [(line["step"], line[name]) for line in lines if name in line]
        means = []
        for index in range(len(seen)):
            near = [value for _, value in seen[max(0, index - window) : index + window + 1]]
            means.append((seen[index][0], sum(near) / len(near)))
        found[name] = means
    return found


def panel(name: str, points: list[tuple[float, float]], *, left: int, top: int) -> str:
    last, values = points[-1][0], [value for _, value in points]
    low, high = min(values), max(values)
    room = (high - low) or 1.0

    def place(step: float, value: float) -> str:
        return f"{left + step / last * WIDTH:.1f},{top + HEIGHT - (value - low) / room * HEIGHT:.1f}"

    line = " ".join(place(*point) for point in points)
    text = f'<text x="{left}" y="{top - 6}">{name}: {values[0]:.4g} to {values[-1]:.4g}</text>'
    frame = f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>'
    axis = f'<text x="{left + WIDTH}" y="{top + HEIGHT + 12}" text-anchor="end" fill="#777">{last:g} steps</text>'
    return f'{text}{frame}{axis}<polyline points="{line}" fill="none" stroke="#26c" stroke-width="1.4"/>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--window", type=int, default=15, help="log lines on either side that are averaged")
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.log.read_text(encoding="utf-8").splitlines()]
    shown = panels(lines, options.window)
    rows = -(-len(shown) // COLUMNS)
    parts = [
        panel(
            name,
            points,
            left=GAP + (index % COLUMNS) * (WIDTH + GAP),
            top=GAP + (index // COLUMNS) * (HEIGHT + GAP + 8),
        )
        for index, (name, points) in enumerate(shown.items())
    ]
    width, height = GAP + COLUMNS * (WIDTH + GAP), GAP + rows * (HEIGHT + GAP + 8)
    style = '<style>text{font:11px sans-serif}</style><rect width="100%" height="100%" fill="white"/>'
    options.output.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{style}{"".join(parts)}</svg>\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
