"""What importing the package does, and what it leaves to the user."""

import os
import subprocess
import sys

import pytest

from mmfa.demo import next_step

SCRIPT = "import sys, mmfa; print('torch' in sys.modules); import os, torch; print(os.environ['OMP_WAIT_POLICY'])"


@pytest.mark.parametrize(("users", "policy", "spins"), [(None, "PASSIVE", "0"), ("ACTIVE", "ACTIVE", None)])
def test_idle_threads_wait_without_spinning(users, policy, spins) -> None:
    """The policy is there before torch, whose OpenMP takes it; the user's own is kept."""
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment |= {"OMP_DISPLAY_ENV": "verbose"} | ({} if users is None else {"OMP_WAIT_POLICY": users})
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", policy]
    if sys.platform == "linux":  # GNU's OpenMP, which says at its start what it read
        assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
        assert spins is None or f"GOMP_SPINCOUNT = '{spins}'" in done.stderr


# -- how to go on -------------------------------------------------------------------------------------------------------


def test_the_next_step_is_what_works_here(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "my env" / "bin"
    folder.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(folder))
    assert next_step().startswith(f"next: '{folder}/python' -m mmfa animate ")
    (folder / "activate").write_text("")
    assert next_step().startswith("next: . 'my env/bin/activate' && mmfa animate ")
    (folder / "mmfa").write_text("#!/bin/sh\n")
    (folder / "mmfa").chmod(0o755)
    assert next_step().startswith("next: mmfa animate ")
