"""The suite's own surroundings: nothing that an earlier run left is in sight, for tests and for the programs they start."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mmfa.priors import face_features, vgg
from mmfa.priors.hub import hub_path

_SCRIPT = """
import json, pathlib, tempfile, torch
print(json.dumps([str(pathlib.Path.home()), torch.hub.get_dir(), tempfile.gettempdir()]))
"""


def test_optional_weights_of_this_machine_are_out_of_sight() -> None:
    assert not face_features.available()
    assert not any(hub_path(p.file).exists() for p in (vgg.vgg19_params(), vgg.vggface_params()))


def test_programs_that_tests_start_have_the_same_home_and_caches() -> None:
    own = Path(os.environ["HOME"]).parent
    home, hub, temporary = json.loads(subprocess.check_output([sys.executable, "-c", _SCRIPT], text=True))
    assert [Path(place).is_relative_to(own) for place in (home, hub, temporary)] == [True] * 3
    assert Path(temporary) == Path(tempfile.gettempdir())


def test_a_stand_in_is_seen_by_the_test_that_asks_for_it(faceres: Path) -> None:
    assert face_features.available() and face_features.FaceFeatures()
