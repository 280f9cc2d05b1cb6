"""A clip is decoded once for all that is measured of it, and its frames are counted without decoding."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from mmfa.dataset.index import entries
from mmfa.errors import MediaError
from mmfa.evaluate import measure, reading
from mmfa.evaluate.protocol import Clip, Protocol, look
from mmfa.evaluate.reading import Reading
from mmfa.evaluate.run import evaluate
from mmfa.evaluate.subjects import CopySource, Model, Subject
from mmfa.evaluate.validation import talking
from mmfa.media.image import Array
from mmfa.media.video import VideoReader
from mmfa.registry import build
from mmfa.weights import save_pretrained

SIZE = 32


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the videos whose frames were gone through, one for each time."""
    names: list[str] = []
    original = VideoReader.__iter__

    def counted(self: VideoReader):
        names.append(self.path.name)
        return original(self)

    monkeypatch.setattr(VideoReader, "__iter__", counted)
    return names


@pytest.fixture
def clip(clip_writer, tmp_path: Path) -> Clip:
    frames = np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), dtype=np.uint8)
    clip_writer(tmp_path / "clip.mp4", list(frames), fps=25, sound=False)
    return look(entries(tmp_path)[0])


def same(found: list[Array], clip: Clip, indices: list[int]) -> bool:
    every = list(clip.read())
    return all(np.array_equal(a, every[index]) for a, index in zip(found, indices, strict=True))


@pytest.mark.parametrize("protocol", ["same", "cross"])
def test_each_clip_is_decoded_once(protocol: Protocol, decoded: list[str], clip_writer, tmp_path: Path) -> None:
    """By a model, which tracks every frame, and with a stride, so that bursts are measured too."""
    frames = [picture.frame() for picture in talking(54)[::6]]
    for name, part in (("a", frames[:-1]), ("b", frames[1:])):
        clip_writer(tmp_path / f"{name}.mp4", part, fps=5, sound=False)
    torch.manual_seed(0)
    save_pretrained(build("tiny"), tmp_path / "model")
    subjects: list[Subject] = [Model(str(tmp_path / "model")), CopySource()]
    # Across identities the first frame of the other clip is the source, which is one look more.
    times = 1 if protocol == "same" else 2
    for subject in subjects if protocol == "same" else subjects[:1]:
        decoded.clear()
        cache = tmp_path / f"kept-{subject.name}"
        report = evaluate(
            tmp_path, tmp_path / "out", subject=subject, protocol=protocol, stride=3, cache=cache, quiet=True
        ).report
        assert sorted(decoded) == ["a.mp4"] * times + ["b.mp4"] * times
        jitter = report.figure("jitter")
        assert report.split == "all" and report.frames == {"same": 4, "cross": 6}[protocol] and jitter and jitter.frames == 10
    decoded.clear()
    evaluate(tmp_path, tmp_path / "out", subject=subject, protocol=protocol, stride=3, cache=cache, quiet=True)
    assert decoded == []


def test_a_clip_too_large_to_keep_gives_the_same_measures(clip_writer, tmp_path: Path, monkeypatch) -> None:
    frames = [picture.frame() for picture in talking(72)[::6]]
    clip_writer(tmp_path / "a.mp4", frames, fps=5, sound=False)
    reports = []
    for limit in (reading.HELD_BYTES, 5 * 3 * 256**2):
        monkeypatch.setattr(reading, "HELD_BYTES", limit)
        out, cache = tmp_path / f"out-{limit}", tmp_path / f"kept-{limit}"
        assert evaluate(tmp_path, out, subject=CopySource(), stride=2, cache=cache, quiet=True).measured == 2
        reports.append((out / "report.json").read_bytes())
    assert reports[0] == reports[1]


def test_frames_come_in_any_order_of_asking(clip: Clip, decoded: list[str]) -> None:
    once = Reading(clip, [0, 2, 4, 6, 8])
    first = next(once.at([0]))
    assert same([first, *once.every()], clip, [0, *range(9)])
    decoded.clear()
    kept = list(once.at([2, 4, 8])), list(once.at([0, 6]))
    assert decoded == []
    assert same(kept[0], clip, [2, 4, 8]) and same(kept[1], clip, [0, 6])
    decoded.clear()
    assert same(list(once.at([1, 2, 3])), clip, [1, 2, 3])  # 1 and 3 went by and were not kept
    assert decoded == ["clip.mp4"] * 2  # the other one is `same`'s
    both = Reading(clip, [])
    a, b = both.every(), both.every()
    assert same([frame for pair in zip(a, b, strict=True) for frame in pair], clip, [index for i in range(9) for index in (i, i)])


def test_no_more_is_kept_than_the_limit(clip: Clip, monkeypatch) -> None:
    monkeypatch.setattr(reading, "HELD_BYTES", 2 * 3 * SIZE**2)
    once = Reading(clip, [4, 0, 4, 2, 6])
    list(once.every())
    assert sorted(once._kept) == [0, 4]


@pytest.mark.parametrize(("count", "words"), [(8, "8 frames by its packets, but 9"), (10, "10 frames by its packets, but 9")])
def test_a_clip_that_holds_another_number_is_named(clip: Clip, count: int, words: str) -> None:
    wrong = Clip(**{**vars(clip), "frames": count})
    with pytest.raises(MediaError, match=f"clip.mp4 has {words} can be decoded; leave it out, or make it anew"):
        list(Reading(wrong, []).every())


@pytest.mark.parametrize(
    ("codec", "name", "options", "decodes"),
    [
        ("libx264", "a.mp4", {"bf": "3"}, False),
        ("libx265", "a.mkv", {"x265-params": "log-level=none"}, False),
        ("libvpx-vp9", "a.webm", {"auto-alt-ref": "1", "lag-in-frames": "16"}, False),
        ("libvpx", "a.webm", {"auto-alt-ref": "1", "lag-in-frames": "16"}, True),
        ("mpeg4", "a.avi", {"bf": "2"}, True),
    ],
)
def test_frames_are_counted_by_packets_where_that_is_exact(
    codec: str, name: str, options: dict[str, str], decodes: bool, decoded: list[str], tmp_path: Path
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with av.open(str(tmp_path / name), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for shift in range(30):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, shift, 1), format="rgb24")))
        output.mux(stream.encode(None))
    found = look(entries(tmp_path)[0])
    assert decoded == ([name] if decodes else [])
    assert found.frames == 30 == len(list(found.read()))


def test_jobs_of_one_clip_go_to_one_process(clip: Clip) -> None:
    jobs: list[measure.Job] = [
        measure.DrivingJob(clip, 1),
        measure.SourceJob(clip),
        measure.DrivingJob(Clip(**{**vars(clip), "name": "b"}), 1),
    ]
    assert measure._by_clip(jobs) == [jobs[:2], jobs[2:]]
