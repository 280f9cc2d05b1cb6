"""What kept measures depend on: every file that a rendered frame comes from changes the key, and no other does."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import version as original
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from mmfa.evaluate import dependencies, subjects
from mmfa.evaluate.cache import leaking_state
from mmfa.evaluate.dependencies import fingerprint
from mmfa.evaluate.subjects import Model
from mmfa.portrait import PortraitModel
from mmfa.weights import from_pretrained

PACKAGE = Path(str(files("mmfa")))
FRAMES, MEASURES, LEAKAGE = ("mmfa.evaluate.subjects", "mmfa.evaluate.measure", "mmfa.evaluate.sitters")
LITE, PAPER = "mmfa.models.lite.model", "mmfa.models.paper.model"
"""Modules of kinds, which the registry imports by name."""

WATCHED = """
import json, sys
from pathlib import Path
import mmfa
root, opened = Path(mmfa.__file__).parent, set()
sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)
import numpy as np
from mmfa.demo import SOURCE, packaged
from mmfa.evaluate.protocol import Clip, Task
from mmfa.evaluate.subjects import Model
from mmfa.media.image import read_image
import mmfa.priors.graph as graph
read = graph.safe_open
def watched(path, *rest, **more):
    opened.add(str(path))  # opened by safetensors itself, where Python sees nothing
    return read(path, *rest, **more)
graph.safe_open = watched
photo = read_image(packaged(*SOURCE))[:350, 50:400]
clip = Clip("a", "a", Path("a"), "clip", 3, 350, "0")
frames = list(Model("lite").frames(Task("a", clip, clip, "same", 1), photo, [photo] * 3))
assert len(frames) == 2 and frames[0].std() > 20
loaded = {str(module.__file__) for name, module in sys.modules.items() if name.partition(".")[0] == "mmfa"}
used = loaded | {path for path in opened if Path(path).suffix == ".safetensors"}
print(json.dumps(sorted(Path(path).relative_to(root).as_posix() for path in used)))
"""
"""Renders frames in a fresh process and prints which files of the package were imported or opened for that."""


@pytest.fixture(scope="module")
def used() -> list[str]:
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package."""
    return Path(shutil.copytree(PACKAGE, tmp_path_factory.mktemp("copy") / "mmfa", ignore=shutil.ignore_patterns("__pycache__")))


def changed(module: str, root: Path, file: str, *also: str) -> bool:
    """Whether one more byte in a file changes what stands for `module` and what is imported `also`."""
    path = root / file
    kept = path.read_bytes()
    before = fingerprint(module, root, also=also)
    path.write_bytes(kept + (b"\n" if path.suffix == ".py" else b"x"))
    fingerprint.cache_clear()
    after = fingerprint(module, root, also=also)
    path.write_bytes(kept)
    fingerprint.cache_clear()
    return before != after


def test_every_file_that_a_frame_comes_from_changes_the_key(used: list[str], root: Path) -> None:
    helpers = {"demo.py", "models/lite/model.safetensors"}  # what the program above needs; the model has its own hash
    frames = [file for file in used if file not in helpers]
    known = {"session.py", "driving.py", "device.py", "evaluate/subjects.py", "nets/generator.py", "media/crop.py"}
    known |= {"portrait.py", "registry.py", "engine/torch.py", "models/mmfa.py"}
    known |= {"models/lite/__init__.py", "models/lite/model.py"}
    assert known | {"priors/weights/face_mesh.safetensors", "priors/weights/face_detector.safetensors"} <= set(frames)
    assert [file for file in frames if not changed(FRAMES, root, file, LITE)] == []


def test_the_kind_of_a_model_is_told_by_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both keys ask for the module in which its kind is made, and change with it."""
    assert Model("lite").kind_module() == LITE
    asked: list[tuple[str, ...]] = []

    def noted(module: str, *, also: tuple[str, ...] = ()) -> str:
        asked.append((module, *also))
        return ""

    monkeypatch.setattr("mmfa.evaluate.cache.fingerprint", noted)
    Model("lite").state()
    leaking_state(Model("lite").kind_module())
    assert asked == [(FRAMES, LITE), (LEAKAGE, LITE)]


def test_the_keys_of_many_tasks_load_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(name: str) -> PortraitModel[Any, Any]:
        loaded.append(name)
        return from_pretrained(name)

    subjects._kind_module.cache_clear()
    monkeypatch.setattr(subjects, "from_pretrained", load)
    assert len({tuple(Model("lite").state()) for _ in range(3)}) == 1
    assert loaded == ["lite"]


def test_other_files_do_not_change_it(root: Path) -> None:
    others = [path.relative_to(root).as_posix() for room in ("train", "cli") for path in (root / room).glob("*.py")]
    assert len(others) > 15
    others += [f"evaluate/{name}.py" for name in ("page", "report", "figures", "tables", "bootstrap", "run", "floors")]
    others += ["dataset/prepare.py", "demo.py", "animate.py", "models/lite/README.md", "models/paper/model.py"]
    assert [file for file in others if changed(FRAMES, root, file, LITE)] == []
    assert [changed(FRAMES, root, f"models/{kind}/model.py", PAPER) for kind in ("paper", "lite")] == [True, False]


def test_measures_of_real_clips_do_not_depend_on_what_animates(root: Path) -> None:
    yes = ("evaluate/measure.py", "evaluate/reading.py", "evaluate/metrics.py", "evaluate/extractors.py", "priors/landmarks.py")
    no = ("animate.py", "session.py", "nets/generator.py", "evaluate/subjects.py", "evaluate/figures.py", "dataset/extract.py")
    assert [changed(MEASURES, root, file) for file in (*yes, *no)] == [True] * len(yes) + [False] * len(no)
    also = ("evaluate/trials.py", "evaluate/sitters.py", "edit.py", "nets/generator.py", "models/lite/model.py")
    neither = ("evaluate/leakage.py", "evaluate/page.py")
    found = [changed(LEAKAGE, root, file, LITE) for file in (*also, *neither)]
    assert found == [True] * len(also) + [False] * len(neither)


def test_imports_are_followed_wherever_they_stand(tmp_path: Path) -> None:
    sources = {
        "__init__.py": "",
        "start.py": "from typing import TYPE_CHECKING\nfrom . import a\nif TYPE_CHECKING:\n    from . import typed\n"
        "else:\n    from . import untyped\n",
        "a.py": "import os, torch\nfrom mmfa.room import b, something\nimport mmfa.whole\n",
        "whole.py": "",
        "untyped.py": "",
        "typed.py": "",
        "alone.py": "from . import start\n",
        "room/__init__.py": "from .deep.c import d as something\n",
        "room/b.py": "def late():\n    from ..far import name\n    return name\n",
        "room/deep/__init__.py": "",
        "room/deep/c.py": "import json\nd = 1\n",
        "far.py": "from . import start  # a circle\nname = 1\n",
        "room/weights.bin": "x",
        "room/more/weights.bin": "x",
    }
    for file, text in sources.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    found = {file for file in sources if changed("mmfa.start", tmp_path, file)}
    assert sources.keys() - found == {"typed.py", "alone.py"}


def test_another_version_of_a_package_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(MEASURES)
    for name in ("torch", "av", "pillow", "numpy"):
        fingerprint.cache_clear()
        dependencies._version.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(dependencies, "version", lambda other, name=name: "9.9" if other == name else original(other))
            assert fingerprint(MEASURES) != before, name
    fingerprint.cache_clear()
    dependencies._version.cache_clear()
    assert fingerprint(MEASURES) == before
