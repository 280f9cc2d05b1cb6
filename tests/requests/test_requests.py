"""Requests: the same work from the command line, from JSON and from Python; what is wrong with one is a sentence."""

import argparse
import ast
import json
import re
import threading
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmfa
from mmfa.cli.main import _parser, main
from mmfa.errors import Cancelled, ConfigError, MediaError
from mmfa.media.video import VideoReader
from mmfa.requests import REQUESTS, AnimateRequest, EditRequest, Result, read_request, request_of
from mmfa.session import Session
from mmfa.watch import Progress, Watch


@pytest.fixture(autouse=True)
def _model_loaded_once(animator, monkeypatch) -> None:
    monkeypatch.setattr(Session, "from_pretrained", classmethod(lambda cls, *a, **k: animator.session))


def content(path: Path) -> object:
    """The bytes of a file; of safetensors, whose header the library writes in any order, the header and the bytes behind it."""
    data = path.read_bytes()
    if path.suffix != ".safetensors":
        return data
    start = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:start]), data[start:]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (
            ["edit", "{photo}", "-o", "{out}.png", "--yaw", "12", "--set", "smile=0.5", "--no-crop"],
            {"request": "edit", "source": "{photo}", "output": "{out}.png", "yaw": 12, "set": {"smile": 0.5}, "crop": False},
        ),
        (
            ["animate", "{photo}", "{driving}", "-o", "{out}.mp4", "--mode", "absolute", "--smooth", "0.2", "--lips", "1.1"],
            {
                "request": "animate",
                "source": "{photo}",
                "driving": "{driving}",
                "output": "{out}.mp4",
                "mode": "absolute",
                "smooth": 0.2,
                "lips": 1.1,
            },
        ),
        (
            ["sample", "{photo}", "-o", "{out}.png", "--n", "2", "--seed", "3"],
            {"request": "sample", "source": "{photo}", "output": "{out}.png", "n": 2, "seed": 3},
        ),
        (
            ["motion", "{driving}", "-o", "{out}.safetensors"],
            {"request": "motion", "video": "{driving}", "output": "{out}.safetensors"},
        ),
    ],
    ids=["edit", "animate", "sample", "motion"],
)
def test_json_and_the_command_line_give_the_same_bytes(portrait, short_driving, tmp_path, words, values) -> None:
    def filled(text: object, name: str) -> object:
        return text.format(photo=portrait, driving=short_driving, out=tmp_path / name) if isinstance(text, str) else text

    assert main([str(filled(word, "words")) for word in words]) == 0
    file = tmp_path / "request.json"
    file.write_text(json.dumps({key: filled(value, "json") for key, value in values.items()}))
    assert main(["run", str(file)]) == 0
    (one,), (other,) = tmp_path.glob("words.*"), tmp_path.glob("json.*")
    assert content(one) == content(other) and one.stat().st_size > 500


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no JSON"),
        ("[]", "no keys and values"),
        ("{}", "must name one of animate, motion, demo"),
        ('{"request": "paint"}', "must name one of"),
        ('{"request": "edit", "source": "a.png"}', "'output' is missing"),
        ('{"request": "edit", "source": "a.png", "output": "b.png", "yow": 1}', "unknown key 'yow'; did you mean 'yaw'"),
        ('{"request": "edit", "source": "a.png", "output": "b.png", "yaw": "far"}', "yaw must be of type float"),
        ('{"request": "edit", "source": 3, "output": "b.png"}', "source must be of type path"),
        ('{"request": "edit", "source": "a.png", "output": "b.png", "set": ["smile"]}', "set must be of type"),
        ('{"request": "sample", "source": "a.png", "output": "b.png", "device": "abacus"}', "device must be auto or cpu"),
        ('{"request": "animate", "source": "a.png", "driving": "b.mp4", "output": "c.mp4", "anchor": -1}', "anchor must be"),
        ('{"request": "edit", "source": "a.png", "output": "b.png", "face": -1}', "face must be 0 or more"),
    ],
)
def test_what_is_wrong_with_a_request_is_one_sentence(tmp_path, capsys, text, reason) -> None:
    (tmp_path / "request.json").write_text(text)
    assert main(["run", str(tmp_path / "request.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mmfa: ") and reason in line
    with pytest.raises(ConfigError):
        read_request(tmp_path / "request.json")


@pytest.mark.parametrize(
    ("words", "values", "option", "field"),
    [
        (["--take", "scale"], {"take": "scale"}, "name it with --from", "name it with `driving`"),
        (["--expression", "neutral", "--set", "smile=1"], {"expression": "neutral", "set": {"smile": 1}}, "--set.", "`set`."),
        ([], {}, "--turntable", "`turntable`"),
        (["--expression", "{photo}@x"], {"expression": "{photo}@x"}, "--expression: 'x'", "`expression`: 'x'"),
    ],
    ids=["driver", "neutral", "nothing", "moment"],
)
def test_a_sentence_names_options_at_the_command_line_and_fields_in_json(
    portrait, tmp_path, capsys, words, values, option, field
) -> None:
    def filled(value: object) -> object:
        return value.format(photo=portrait) if isinstance(value, str) else value

    output = tmp_path / "out.png"
    assert main(["edit", str(portrait), "-o", str(output), *(str(filled(word)) for word in words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert option in line and "`" not in line
    file, rest = tmp_path / "request.json", {key: filled(value) for key, value in values.items()}
    file.write_text(json.dumps({"request": "edit", "source": str(portrait), "output": str(output), **rest}))
    assert main(["run", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert field in line and "--" not in line


def test_a_note_names_options_at_the_command_line_and_fields_elsewhere(portrait, tmp_path, capsys) -> None:
    picture = np.asarray(Image.open(portrait).convert("RGB"))
    Image.fromarray(np.concatenate([picture, picture], 1)).save(tmp_path / "two.png")
    request = EditRequest(source=tmp_path / "two.png", output=tmp_path / "out.png", yaw=5.0)
    (note,) = (note for note in request.run().notes if "2 faces" in note)
    assert note.endswith("(choose with `face`).")
    assert main(["edit", str(request.source), "-o", str(request.output), "--yaw", "5"]) == 0
    assert note.replace("`face`", "--face") in capsys.readouterr().err.splitlines()


def test_whoever_does_the_work_knows_no_options() -> None:
    """Requests come from JSON too: in what they and all below them say, fields stand in backticks, and they exist."""
    known = {field.name for kind in REQUESTS.values() for field in fields(kind)}
    root = Path(mmfa.__file__).parent
    others = ("cli", "evaluate", "train", "dataset", "nets")
    named = set()
    for path in root.rglob("*.py"):
        room = path.relative_to(root).parts[0]
        for text in [] if room in others else spoken(path):
            assert not re.search(r"(^|\s)--[a-z]", text), f"{path}: {text}"
            named |= set(re.findall(r"`(\w+)`", text)) if room == "requests" else set()
    assert {"driving", "set", "face", "steps"} <= named <= known


def spoken(path: Path) -> list[str]:
    """The texts of a module that are no docstrings."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    silent = {node.value for node in nodes if isinstance(node, ast.Expr)}
    return [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and n not in silent]


def test_a_long_clip_is_edited_while_it_is_tracked(portrait, short_driving, tmp_path, monkeypatch) -> None:
    assert Session.animate.__kwdefaults__ is not None
    monkeypatch.setitem(Session.animate.__kwdefaults__, "glance", 10)
    request = EditRequest(source=portrait, driving=short_driving, take="rotation", yaw=5.0, output=tmp_path / "out.mp4")
    seen: list[Progress] = []
    assert "12 frames" in request.run(watch=Watch(on_progress=seen.append)).summary
    assert list(dict.fromkeys(progress.stage for progress in seen)) == ["look", "render"]


def test_a_missing_request_names_its_file(tmp_path, capsys) -> None:
    assert main(["run", str(tmp_path / "none.json")]) == 2
    assert "none.json does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("name", REQUESTS)
def test_every_request_says_what_it_takes(name) -> None:
    kind = REQUESTS[name]
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    assert kind.name == name and kind.__doc__ and needed <= {"source", "sources", "driving", "output", "video", "first", "last"}
    with pytest.raises(ConfigError, match=f"{name}: unknown key 'nonsense'"):
        request_of({"request": name, "nonsense": 1})


@pytest.mark.parametrize("name", REQUESTS)
def test_the_command_line_can_say_all_that_a_request_can(name) -> None:
    groups = [group for group in _parser()._actions if isinstance(group, argparse._SubParsersAction)]
    parsers = [parser for group in groups for parser in group.choices.values() if parser.get_default("request") == name]
    assert len(parsers) == 1
    said = {action.dest for action in parsers[0]._actions} | ({"start", "end"} if name == "edit" else set())
    assert {field.name for field in fields(REQUESTS[name])} <= said


def test_progress_notes_and_summary_are_data(portrait, short_driving, tmp_path) -> None:
    seen: list[Progress] = []
    request = AnimateRequest(source=portrait, driving=short_driving, output=tmp_path / "out.mp4", lips=1.8)
    result = request.run(watch=Watch(on_progress=seen.append))
    assert result.outputs == (tmp_path / "out.mp4",) and "12 frames at 25 fps" in result.summary
    assert any("lips 1.8 is beyond" in note for note in result.notes)
    stages = {progress.stage: progress for progress in seen}
    assert list(stages) == ["motion", "render"] and stages["render"] == Progress("render", 12, 12)
    with VideoReader(tmp_path / "out.mp4") as video:
        assert sum(1 for _ in video) == 12


def test_cancelled_work_leaves_nothing(portrait, short_driving, tmp_path) -> None:
    stop = threading.Event()

    def told(progress: Progress) -> None:
        if progress.stage == "render" and progress.done == 3:
            stop.set()

    request = AnimateRequest(source=portrait, driving=short_driving, output=tmp_path / "out.mp4")
    with pytest.raises(Cancelled, match="no unfinished file was left"):
        request.run(watch=Watch(on_progress=told, cancelled=stop.is_set))
    assert not list(tmp_path.iterdir())


def test_two_requests_have_their_own_notes(portrait, tmp_path) -> None:
    """Notes were warnings once, which all threads of a process share."""
    requests = {angle: EditRequest(source=portrait, output=tmp_path / f"{angle}.png", yaw=float(angle)) for angle in (50, 60, 5)}
    results: dict[int, Result] = {}
    threads = [
        threading.Thread(target=lambda angle=angle, request=request: results.__setitem__(angle, request.run()))
        for angle, request in requests.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["yaw 50" in note for note in results[50].notes] == [True] and ["yaw 60" in note for note in results[60].notes] == [
        True
    ]
    assert results[5].notes == ()


def test_a_request_overwrites_no_input(portrait, tmp_path) -> None:
    copy = tmp_path / "me.png"
    copy.write_bytes(Path(portrait).read_bytes())
    with pytest.raises(MediaError, match="is an input and will not be overwritten"):
        EditRequest(source=copy, output=copy, yaw=5.0).run()
    assert copy.read_bytes() == Path(portrait).read_bytes()
