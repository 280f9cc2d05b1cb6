"""What the pages show works: their Python runs, their JSON is a request, their tables are what the code says."""

import json
import re
import runpy
import shlex
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmfa.cli.main import main
from mmfa.media.image import Array, read_image, write_image
from mmfa.media.video import VideoReader
from mmfa.registry import build, names
from mmfa.requests import REQUESTS, request_of
from mmfa.weights import save_pretrained

ROOT = Path(__file__).parents[1]
REQUESTS_PAGE = ROOT / "docs" / "requests.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def examples(*pages: str) -> list[Any]:
    """Every Python block of the pages, named by its page and number."""
    found = {f"{Path(page).stem}-{i}": block for page in pages for i, block in enumerate(blocks(ROOT / page, "python"))}
    assert found
    return [pytest.param(block, id=name) for name, block in found.items()]


@pytest.fixture
def desk(tmp_path: Path, portrait: Path, carphone_frames: list[Array], clip_writer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with me.jpg and talk.mp4, four frames and four seconds long."""
    write_image(tmp_path / "me.jpg", read_image(portrait)[:256, 100:356])
    clip_writer(tmp_path / "talk.mp4", carphone_frames[:4], fps=1, sound=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUN = ("README.md", "docs/picture.md", "docs/library.md", "docs/requests.md", "docs/editing.md")


@pytest.mark.parametrize("block", examples(*RUN))
def test_the_python_of_the_pages_runs(block: str, desk: Path) -> None:
    exec(compile(block, "example", "exec"), {"__name__": "example"})
    made = {path.name for path in desk.iterdir()} - {"me.jpg", "talk.mp4"}
    assert made == {name for name in re.findall(r'"(\w+\.(?:mp4|safetensors))"', block) if name != "talk.mp4"} - (
        {"out.mp4"} if "there is no out.mp4" in block else set()
    )


def test_the_json_of_the_pages_is_a_request_that_runs(desk: Path) -> None:
    (block,) = blocks(REQUESTS_PAGE, "json")
    assert request_of(json.loads(block)).name == "animate"
    (desk / "request.json").write_text(block, encoding="utf-8")
    (command,) = blocks(REQUESTS_PAGE, "bash")
    assert main(command.split()[1:]) == 0
    with VideoReader(desk / "out.mp4") as video:
        assert len(list(video)) == 4


def test_the_kind_of_the_page_is_found_in_its_package_and_animates(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (module,) = blocks(ROOT / "CONTRIBUTING.md", "python")
    (declared,) = blocks(ROOT / "CONTRIBUTING.md", "toml")
    site = desk / "site"
    package = site / "mmfa_follow-1.0.dist-info"  # as pip would install it
    package.mkdir(parents=True)
    (site / "mmfa_follow.py").write_text(module, encoding="utf-8")
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mmfa-follow\nVersion: 1.0\n", encoding="utf-8")
    ((group, points),) = tomllib.loads(declared)["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {place}" for name, place in points.items())]
    (package / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "mmfa_follow", raising=False)
    assert "follow" in names()
    save_pretrained(build("follow"), "follow")
    (command,) = [block for block in blocks(ROOT / "CONTRIBUTING.md", "bash") if block.startswith("mmfa ")]
    assert main([*shlex.split(command)[1:], "--quiet"]) == 0
    with VideoReader(desk / "out.mp4") as video:
        first, *rest = (frame.image.astype(int) for frame in video)
    assert len(rest) == 3 and np.abs(first - rest[-1]).max() > 8
    monkeypatch.undo()
    assert "follow" not in names()


def test_the_terms_of_the_glossary_are_in_the_code() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    found = re.findall(r"`(mmfa(?:\.\w+)+)`", text)
    assert len(found) > 50
    for name in found:
        assert is_defined(name), f"docs/glossary.md: there is no {name}"
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| term")]
    assert all(re.search(r"\| `mmfa\.[^|]+ \|$", row) for row in rows)


def is_defined(name: str) -> bool:
    """Whether a dotted name is a module, or what one holds: a value, a class, a member or a field of it."""
    parts = name.split(".")
    count = next(count for count in range(len(parts), 0, -1) if is_module(".".join(parts[:count])))
    thing: Any = import_module(".".join(parts[:count]))
    for part in parts[count:]:
        if not hasattr(thing, part):
            return part in getattr(thing, "__dataclass_fields__", {})
        thing = getattr(thing, part)
    return True


def is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of the part before the last dot
        return False


def test_the_tables_of_requests_are_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "request_tables.py"))["page"]
    text = REQUESTS_PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run python tools/request_tables.py"
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == list(REQUESTS)


PAGES = [path.relative_to(ROOT).as_posix() for pattern in ("*.md", "docs/*.md", "research/*.md") for path in ROOT.glob(pattern)]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"
