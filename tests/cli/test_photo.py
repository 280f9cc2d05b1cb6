"""What the commands say of the photo they were given."""

from pathlib import Path

import pytest
from PIL import Image

from mmfa.cli.main import main
from mmfa.session import Session


@pytest.fixture(autouse=True)
def _model_loaded_once(animator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "from_pretrained", classmethod(lambda cls, *a, **k: animator.session))


@pytest.mark.parametrize("command", ["edit", "animate"])
def test_a_photo_that_is_reduced_is_announced(portrait: Path, short_driving: Path, tmp_path: Path, capsys, command: str) -> None:
    source = tmp_path / "me.png"
    Image.open(portrait).convert("RGB").save(source)
    wanted = f"{source} has 512 x 512 pixels; it was reduced to 300 x 300 (--resolution)."
    rest = [*([str(short_driving)] if command == "animate" else ["--yaw", "5"]), "--resolution", "300"]
    output = str(tmp_path / ("out.mp4" if command == "animate" else "out.png"))
    assert main([command, str(source), *rest, "-o", output]) == 0
    assert capsys.readouterr().err.splitlines().count(wanted) == 1
    Image.open(portrait).convert("RGB").resize((300, 300)).save(source)
    assert main([command, str(source), *rest, "-o", output]) == 0
    assert "it was reduced to" not in capsys.readouterr().err
