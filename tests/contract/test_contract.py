"""What holds for every kind of model on every engine that is installed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmfa.cli.main import main
from mmfa.engine import Engine
from mmfa.engine.torch import TorchEngine
from mmfa.errors import ModelError
from mmfa.evaluate.report import Report
from mmfa.evaluate.run import evaluate
from mmfa.evaluate.subjects import Model
from mmfa.media.crop import crop
from mmfa.media.image import Array, read_image
from mmfa.media.video import VideoReader
from mmfa.portrait import PortraitModel
from mmfa.registry import build, kind, kind_of, names, registered
from mmfa.session import Photo, Session
from mmfa.weights import from_pretrained, save_pretrained

ENGINES: dict[str, Callable[[PortraitModel], Engine]] = {
    "torch": lambda model: TorchEngine(model, device="cpu", precision="float32"),
    "torch-bfloat16": lambda model: TorchEngine(model, device="cpu", precision="bfloat16"),
}
KINDS = ("lite", "paper", "toy")


def model_of(name: str, toy: Path) -> PortraitModel:
    """The shipped weights; the paper's networks at 64 x 64 with random ones; the toy."""
    torch.manual_seed(0)
    return {"lite": lambda: from_pretrained("lite"), "paper": lambda: build("tiny-paper"), "toy": lambda: from_pretrained(toy)}[
        name
    ]()


@pytest.fixture(scope="module", params=[(name, engine) for name in KINDS for engine in ENGINES], ids="-".join)
def session(request: pytest.FixtureRequest, toy: Path) -> Session:
    name, engine = request.param
    return Session(ENGINES[engine](model_of(name, toy)))


@pytest.fixture(scope="module")
def photo(session: Session, portrait: Path) -> Photo:
    return session.photo(portrait)


@pytest.fixture(scope="module")
def other(session: Session, carphone_frames: list[Array]) -> Photo:
    return session.photo(carphone_frames[60])


@pytest.fixture(scope="module")
def signal(session: Session, carphone_frames: list[Array]) -> Any:
    return session.track(carphone_frames[:90:18]).signal


def tolerance(session: Session) -> int:
    """Grey levels by which sums in another order may differ."""
    return 1 if session.engine.precision == "float32" else 6


def assert_close(found: list[Array], wanted: list[Array], levels: int) -> None:
    assert len(found) == len(wanted) > 0
    gaps = np.abs(np.stack(found).astype(int) - np.stack(wanted))
    assert np.percentile(gaps, 99.9) <= levels and gaps.mean() < 0.1 * levels


def test_the_kind_and_its_card_agree(session: Session) -> None:
    card = session.engine.card
    assert card.kind in names() and kind(card.kind).name == card.kind
    assert card.size > 0 and (not card.supports("amplitude") or card.supports("anchored"))


def test_a_model_draws_in_its_window_or_the_whole_crop(session: Session, photo: Photo, signal: Any) -> None:
    """A window comes with a layer in it, of as many pixels as the card says."""
    card, window = session.engine.card, session.engine.window(signal)
    rendered = session.engine.render(photo.prepared, signal)
    assert (window is None) == (rendered.layer is None) == (card.view == 0)
    side = card.view or card.size
    assert rendered.patch.shape == (len(signal), 3, side, side)
    if rendered.layer is not None:
        assert window is not None and window.shape == (len(signal), 3) and bool((window[:, 2] > 0).all())
        torch.testing.assert_close(rendered.layer.window, window)
        assert len(rendered.layer) == len(signal) and rendered.layer.paint.shape == rendered.patch.shape


def test_a_batch_is_its_members(session: Session, photo: Photo, signal: Any) -> None:
    together = list(session.render(photo, signal, batch=len(signal), paste_back=False))
    alone = [next(session.render(photo, signal[i], batch=1, paste_back=False)) for i in range(len(signal))]
    assert_close(together, alone, tolerance(session))


def test_the_signal_reaches_the_picture(session: Session, photo: Photo, signal: Any) -> None:
    frames = np.stack(list(session.render(photo, signal, paste_back=False))).astype(int)
    if session.engine.card.kind != "paper":  # untrained, it answers with grey
        assert np.abs(frames[1:] - frames[0]).max() > 2
    assert frames.shape[1:] == (session.engine.card.size, session.engine.card.size, 3)


def test_streaming_is_in_memory(session: Session, photo: Photo, carphone_frames: list[Array]) -> None:
    frames = carphone_frames[:60:20]
    able = session.engine.card.supports("edit")
    streamed = list(session.stream(photo, frames, mode="absolute", crop=False, smoothing=0))
    tracked = session.track(frames, crop=False).signal
    assert_close(streamed, list(session.render(photo, tracked)), tolerance(session))
    if able:
        relative = list(session.stream(photo, frames, crop=False, smoothing=0))
        wanted = session.relative(photo, tracked, anchor="first")
        assert_close(relative, list(session.render(photo, wanted)), tolerance(session))


def test_the_first_frame_comes_after_the_first_driving_frame(
    session: Session, photo: Photo, carphone_frames: list[Array]
) -> None:
    given: list[int] = []

    def frames() -> Any:
        for number, frame in enumerate(carphone_frames[:3]):
            given.append(number)
            yield frame

    stream = session.stream(photo, frames())
    assert next(stream).shape == photo.image.shape and given == [0]
    assert len(list(stream)) == 2


def test_two_photos_at_once_are_each_alone(session: Session, photo: Photo, other: Photo, signal: Any) -> None:
    alone = {name: list(session.render(one, signal)) for name, one in (("photo", photo), ("other", other))}
    turns = [next(frames) for _ in range(1) for frames in (session.render(photo, signal), session.render(other, signal))]
    assert np.array_equal(turns[0], alone["photo"][0]) and np.array_equal(turns[1], alone["other"][0])
    found: dict[str, list[Array]] = {}
    work = {"photo": photo, "other": other}
    threads = [
        threading.Thread(target=lambda name=name, one=one: found.__setitem__(name, list(session.render(one, signal))))
        for name, one in work.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in work:
        assert_close(found[name], alone[name], tolerance(session))


def test_a_photo_is_a_value(session: Session, photo: Photo, signal: Any, portrait: Path) -> None:
    before = list(session.render(photo, signal[0]))
    list(session.render(photo, signal))
    assert np.array_equal(next(session.render(photo, signal[0])), before[0])
    assert np.array_equal(photo.image, read_image(portrait))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["lite", "toy"])
def test_the_photos_own_signal_gives_the_photo_back(name: str, engine: str, toy: Path, portrait: Path) -> None:
    session = Session(ENGINES[engine](model_of(name, toy)))
    photo = session.photo(portrait)
    frame = next(session.render(photo, photo.signal, paste_back=False))
    wanted = crop(photo.image, photo.box, size=session.engine.card.size)
    error = float(np.square(frame.astype(float) - wanted).mean())
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > 60
    if session.engine.card.view:
        assert np.array_equal(next(session.render(photo, photo.signal)), photo.image), "bit for bit"


@pytest.mark.parametrize("name", KINDS)
def test_saved_and_loaded_it_gives_the_same_frames(name: str, toy: Path, portrait: Path, tmp_path: Path) -> None:
    model = model_of(name, toy)
    save_pretrained(model, tmp_path / "model", half=False)
    again = from_pretrained(tmp_path / "model")
    assert kind_of(again).name == kind_of(model).name == name and again.params == model.params
    frames = []
    for one in (model, again):
        session = Session(ENGINES["torch"](one))
        photo = session.photo(portrait)
        frames.append(next(session.render(photo, photo.signal)))
    assert np.array_equal(frames[0], frames[1])


# -- what a model can't do ----------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == "" and line.startswith("mmfa: ") and line.endswith(".")
    return line


def test_a_foreign_kind_animates(toy: Path, portrait: Path, short_driving: Path, tmp_path: Path) -> None:
    assert (
        main(["animate", str(portrait), str(short_driving), "-o", str(tmp_path / "out.mp4"), "--model", str(toy), "--quiet"]) == 0
    )
    with VideoReader(tmp_path / "out.mp4") as video:
        assert len(list(video)) == 12 and video.info.has_audio


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["edit", "{photo}", "-o", "{out}.png", "--yaw", "5"], "can't be edited"),
        (["animate", "{photo}", "{driving}", "-o", "{out}.mp4", "--mode", "relative"], "can't be edited"),
        (["animate", "{photo}", "{driving}", "-o", "{out}.mp4", "--lips", "1.2"], "no lips or eyes"),
        (["motion", "{driving}", "-o", "{out}.safetensors"], "can't be edited"),
        (["canonical", "{photo}", "-o", "{out}.png"], "can't be edited"),
        (["sample", "{photo}", "-o", "{out}.png"], "no expression space"),
        (["interpolate", "{photo}", "-o", "{out}.png", "--from", "source", "--to", "neutral"], "no expression space"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_it_cannot_do_is_refused_in_one_sentence(
    toy: Path,
    portrait: Path,
    short_driving: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    reason: str,
) -> None:
    filled = [word.format(photo=portrait, driving=short_driving, out=tmp_path / "x") for word in words]
    assert reason in refused(capsys, *filled, "--model", toy)
    assert not list(tmp_path.iterdir())


def test_kinds_come_and_go(toy_kind: Any) -> None:
    with registered(type(toy_kind)(name="other", params=toy_kind.params, build=toy_kind.build)):
        assert "other" in names()
    assert "other" not in names()
    with pytest.raises(ModelError, match="no kind of model 'other'; known are lite, paper, toy"):
        kind("other")


def test_a_foreign_kind_is_evaluated(toy: Path, carphone_frames: list[Array], tmp_path: Path, clip_writer: Any) -> None:
    for person, frames in (("one", carphone_frames[:6]), ("two", carphone_frames[60:66])):
        (tmp_path / "data" / person).mkdir(parents=True)
        clip_writer(tmp_path / "data" / person / "clip.mp4", [frame[:, 16:160] for frame in frames], fps=10, sound=False)
    words = ["evaluate", str(tmp_path / "data"), "-o", str(tmp_path / "report"), "--model", str(toy), "--stride", "1", "--quiet"]
    assert main(words) == 0
    report = Report.load(tmp_path / "report" / "report.json")
    assert report.clips == 2 and report.frames == 10 and report.figure("psnr") is not None
    with pytest.raises(ModelError, match=r"can't be edited|has no keypoints"):
        evaluate(tmp_path / "data", tmp_path / "leaks", subject=Model(str(toy)), split=None, stride=1, leakage=True, quiet=True)
