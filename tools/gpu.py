"""Training `lite` on a bare, borrowed GPU machine: PyTorch, no network, no package index, little time, small transfers.

Here, once (fills the ignored folder gpu-pack/ with parts of at most 40 MB: wheels, then clips):

    python tools/gpu.py pack DATA

There, in the repository, when all parts have arrived:

    python tools/gpu.py start lite-gpu                # unpacks, checks the GPU, starts the run and returns
    python tools/gpu.py watch OUT --seconds 570       # waits, prints the log's end, copies the newest sample sheet to OUT
    python tools/gpu.py finish OUT                    # stops the run cleanly; model and checkpoint, in pieces, to OUT

Here again: ``cat OUT/checkpoint.* > runs/lite-gpu/checkpoints/step_N.safetensors`` lets the same config go on later.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

PACK = Path("gpu-pack")
SITE = PACK / "site"
RUN = Path("runs/lite-gpu")
PART = 40_000_000
PIECE = 15_000_000
ALREADY_THERE = {"torch", "numpy", "pillow", "setuptools"}


def wheels_needed() -> list[str]:
    """Everything that ``mmfa[train]`` needs besides what comes with PyTorch, at the versions installed here."""
    found: dict[str, str] = {}
    come_with_torch = closure("torch", {})
    for line in requires("mmfa") or []:
        if "extra" not in line or 'extra == "train"' in line:
            closure(name_of(line), found)
    return [f"{name}=={number}" for name, number in sorted(found.items()) if name not in ALREADY_THERE.union(come_with_torch)]


def closure(name: str, found: dict[str, str]) -> dict[str, str]:
    if name in found or (name in ALREADY_THERE and name != "torch"):
        return found
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        return found
    for line in requires(name) or []:
        if "extra ==" not in line:
            closure(name_of(line), found)
    return found


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert found is not None
    return found[0].lower().replace("_", "-")


def pack(data: Path, python: str) -> None:
    from mmfa.dataset.index import entries

    shutil.rmtree(PACK, ignore_errors=True)
    wheels = PACK / "all-wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(wheels)]
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)] + ["manylinux2014_x86_64"]
    options = [word for platform in platforms for word in ("--platform", platform)]
    subprocess.run([*command, "--python-version", python, *options, *wheels_needed()], check=True)
    files = sorted(wheels.iterdir(), key=lambda path: path.stat().st_size)
    parts = split([(path, Path("wheels") / path.name) for path in files], 1)
    clips = [(entry.path, Path("clips") / entry.person / entry.path.name) for entry in entries(data, split="train")]
    parts = split(clips, parts)
    shutil.rmtree(wheels)
    for number in range(1, parts):
        part = PACK / f"part{number}"
        size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        print(f"{part}: {size / 1e6:.0f} MB")


def split(files: list[tuple[Path, Path]], number: int) -> int:
    """Copy files into parts from `number` on; the first free number."""
    size = 0
    for path, target in files:
        if size and size + path.stat().st_size > PART:
            number, size = number + 1, 0
        place = PACK / f"part{number}" / target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        size += path.stat().st_size
    return number + 1


def start(config: str) -> None:
    wheels = [str(path) for path in PACK.glob("part*/wheels/*.whl")]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(SITE)]
    subprocess.run([*install, *wheels], check=True)
    environment = {**os.environ, "PYTHONPATH": f"src{os.pathsep}{SITE}", "PYTHONUNBUFFERED": "1"}
    RUN.mkdir(parents=True, exist_ok=True)
    with (RUN / "output.txt").open("a") as log:
        command = [sys.executable, "-m", "mmfa", "train", config]
        run = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    (RUN / "pid").write_text(str(run.pid))
    watch(None, 100)
    if run.poll() is not None:
        raise SystemExit(f"the run ended with {run.returncode}; its output is above")


def watch(out: Path | None, seconds: float) -> None:
    time.sleep(seconds)
    for name, count in (("output.txt", 1500), ("log.jsonl", 3000)):
        path = RUN / name
        if path.exists():
            print(f"-- {path}\n{path.read_text()[-count:]}")
    sheets = sorted(RUN.glob("sample_*.png"))
    if out is not None and sheets:
        shutil.copyfile(sheets[-1], out / sheets[-1].name)


def finish(out: Path) -> None:
    pid = int((RUN / "pid").read_text())
    with_signal(pid, signal.SIGTERM)
    deadline = time.time() + 120
    while with_signal(pid, 0) and time.time() < deadline:
        time.sleep(1)
    watch(out, 0)
    for path in (RUN / "model").iterdir():
        shutil.copyfile(path, out / path.name)
    newest = max((RUN / "checkpoints").glob("step_*.safetensors"))
    content = newest.read_bytes()
    print(f"checkpoint: {newest.name}")
    for index in range(0, len(content), PIECE):
        (out / f"checkpoint.{index // PIECE}").write_bytes(content[index : index + PIECE])


def with_signal(pid: int, number: int) -> bool:
    """Whether the process was there to take the signal."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("data", type=Path)
    packing.add_argument("--python", default="3.12", help="version on the GPU machine")
    commands.add_parser("start").add_argument("config")
    watching = commands.add_parser("watch")
    watching.add_argument("out", type=Path)
    watching.add_argument("--seconds", type=float, default=570)
    commands.add_parser("finish").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "pack":
        pack(options.data, options.python)
    elif options.command == "start":
        start(options.config)
    elif options.command == "watch":
        watch(options.out, options.seconds)
    else:
        finish(options.out)


if __name__ == "__main__":
    main()
