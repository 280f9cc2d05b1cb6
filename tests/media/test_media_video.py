import errno
import struct
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mmfa.errors import MediaError
from mmfa.media import container as container_module
from mmfa.media.container import open_input
from mmfa.media.video import VideoReader, VideoWriter


def level_frame(level: int, *, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), level, dtype=np.uint8)


def make_video(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    fps: Fraction | int = 25,
    times: Sequence[Fraction] | None = None,
    audio_codec: str | None = None,
    seconds: float = 0.0,
) -> Path:
    """Write H.264 frames at `fps` or at given times, with a sine tone of `seconds` if a codec is named."""
    height, width, _ = frames[0].shape
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=fps, options={"crf": "5", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1200) if times else 1 / Fraction(fps)
        audio = None
        if audio_codec is not None:
            audio = output.add_stream(audio_codec, rate=48000, layout="mono")
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base = video.codec_context.time_base
            frame.pts = i if times is None else int(times[i] / frame.time_base)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio is not None:
            write_sine(output, audio, seconds=seconds)
    return path


def write_sine(output, stream, *, seconds: float) -> None:
    count = int(seconds * 48000)
    tone = (np.sin(np.arange(count) * 2 * np.pi * 440 / 48000) * 12000).astype(np.int16)
    resampler = av.AudioResampler(
        format=stream.format, layout="mono", rate=48000, frame_size=stream.codec_context.frame_size or 1024
    )
    frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        output.mux(stream.encode(piece))
    output.mux(stream.encode(None))


@pytest.fixture
def video_path(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4", [level_frame(5 * i) for i in range(40)])


def levels(frames) -> list[int]:
    return [round(float(frame.image.mean()) / 5) for frame in frames]


def audio_packets(path: Path) -> tuple[str, list[bytes], float, float]:
    """Codec name, payloads, start and end in seconds of the sound."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        first, last, base = packets[0].pts, packets[-1].pts, stream.time_base
        assert first is not None and last is not None and base is not None and packets[-1].duration is not None
        return (
            stream.codec_context.codec.canonical_name,
            [bytes(packet) for packet in packets],
            first * float(base),
            (last + packets[-1].duration) * float(base),
        )


def loudness_at(path: Path, time: float) -> float:
    """Mean level of the sound in the 20 ms after `time` seconds."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=48000)
        samples = np.zeros(48000 * 10)
        for frame in container.decode(audio=0):
            for piece in resampler.resample(frame):
                assert piece.pts is not None and piece.time_base is not None
                first = round(piece.pts * piece.time_base * 48000)
                data = piece.to_ndarray()[0][max(0, -first) :]
                samples[max(0, first) : max(0, first) + len(data)] = data
    return float(np.abs(samples[round(time * 48000) :][:960]).mean())


# Reading


def test_constant_rate_file_yields_exactly_its_frames(video_path):
    with VideoReader(video_path) as reader:
        frames = list(reader)
        again = list(reader)
    assert levels(frames) == levels(again) == list(range(40))
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(40)])
    assert reader.skipped == 0
    info = reader.info
    assert (info.width, info.height, info.frame_count, info.has_audio) == (64, 48, 40, False) and info.fps == 25
    assert info.duration == pytest.approx(1.6)
    assert frames[0].image.dtype == np.uint8 and frames[0].image.shape == (48, 64, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(24), Fraction(60)])
def test_no_frame_is_lost_or_doubled_in_any_container(tmp_path, suffix, fps):
    path = make_video(tmp_path / f"a{suffix}", [level_frame(i, width=32, height=32) for i in range(200)], fps=fps)
    reader = VideoReader(path)
    assert float(reader.info.fps) == pytest.approx(float(fps), rel=1e-3)
    assert sum(1 for _ in reader) == 200


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_recordings_come_out_upright(tmp_path, degrees):
    stored = level_frame(0)
    stored[:24, :32] = 250  # top left
    path = make_video(tmp_path / "a.mp4", [stored] * 3)
    # As phones do it: the matrix in the track header, turning the stored picture clockwise.
    matrix = {90: (0, 1, -1, 0, 48, 0), 180: (-1, 0, 0, -1, 64, 48), 270: (0, -1, 1, 0, 0, 64)}[degrees]
    a, b, c, d, x, y = (value * 65536 for value in matrix)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, x, y, 1 << 30)
    path.write_bytes(data)
    reader = VideoReader(path)
    expected = np.rot90(stored, -degrees // 90)
    image = next(iter(reader)).image
    assert image.shape == expected.shape == (reader.info.height, reader.info.width, 3)
    assert np.abs(image.astype(int) - expected).mean() < 5
    assert image.flags.c_contiguous


def test_variable_rate_is_resampled_to_stay_in_step(tmp_path):
    # 1 s at 10 fps, then 1 s at 30 fps: an average of 20.
    times = [Fraction(i, 10) for i in range(10)] + [1 + Fraction(i, 30) for i in range(30)]
    path = make_video(tmp_path / "a.mp4", [level_frame(5 * i) for i in range(40)], fps=20, times=times)
    frames = list(VideoReader(path))
    rate = float(VideoReader(path).info.fps)
    assert len(frames) == pytest.approx(2 * rate, abs=1)
    for n, (frame, level) in enumerate(zip(frames, levels(frames), strict=True)):
        assert frame.time == pytest.approx(n / rate)
        assert float(times[level]) == pytest.approx(frame.time, abs=0.1)
    own = list(VideoReader(path, constant_rate=False))
    assert levels(own) == list(range(40))
    assert [frame.time for frame in own] == pytest.approx([float(time) for time in times], abs=1e-3)


def test_a_hole_of_hours_in_the_timestamps_is_not_filled(tmp_path):
    times = [Fraction(i, 25) for i in range(10)] + [7200 + Fraction(i, 25) for i in range(10)]
    path = make_video(tmp_path / "a.mkv", [level_frame(10 * i) for i in range(20)], times=times)
    assert len(list(VideoReader(path))) < 60


def test_frames_are_read_as_they_are_asked_for(tmp_path):
    frame = np.zeros((240, 320, 3), dtype=np.uint8)
    path = make_video(tmp_path / "a.mp4", [frame] * 300)
    reader = VideoReader(path)
    tracemalloc.start()
    count = sum(1 for _ in reader)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 300
    assert peak < 20 * frame.nbytes


def test_leaving_the_block_ends_iteration(video_path):
    with VideoReader(video_path) as reader:
        frames = iter(reader)
        next(frames)
    assert list(frames) == []


def test_animated_gif(tmp_path):
    pictures = [Image.new("RGB", (32, 32), (level, level, level)) for level in (0, 100, 200)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    assert levels(VideoReader(tmp_path / "a.gif")) == [0, 20, 40]


def test_hd_without_colour_tags_is_taken_for_bt709(tmp_path):
    frame = np.zeros((720, 1280, 3), dtype=np.uint8)
    frame[:] = (20, 200, 40)
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "5", "preset": "ultrafast"})
        stream.width, stream.height = 1280, 720
        yuv = av.VideoFrame.from_ndarray(frame).reformat(format="yuv420p", dst_colorspace="ITU709")
        yuv.colorspace = 2
        output.mux(stream.encode(yuv))
        output.mux(stream.encode(None))
    image = next(iter(VideoReader(tmp_path / "a.mp4"))).image
    assert np.abs(image[300, 300].astype(int) - (20, 200, 40)).max() <= 4


# Damage


def test_files_that_are_no_video_are_named(tmp_path, video_path):
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "text.txt").write_text("hello\n" * 100)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nin.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "headless.mp4").write_bytes(video_path.read_bytes()[:1000])
    Image.new("RGB", (32, 32)).save(tmp_path / "still.png")
    with av.open(str(tmp_path / "sound.wav"), "w") as output:
        write_sine(output, output.add_stream("pcm_s16le", rate=48000, layout="mono"), seconds=0.2)
    for name in ("text.mp4", "text.txt", "list.m3u8", "headless.mp4", "still.png", "sound.wav", "none.mp4"):
        with pytest.raises(MediaError, match=name) as caught:
            VideoReader(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_damage_in_the_middle_is_skipped(tmp_path):
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(50)]
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream = output.add_stream("mpeg4", rate=25, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in noise:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        output.mux(stream.encode(None))
    with av.open(str(tmp_path / "a.mkv")) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    for position, size in packets[20:24]:
        assert position is not None
        data[position + 10 : position + size - 10] = bytes(size - 20)
    (tmp_path / "a.mkv").write_bytes(data)
    reader = VideoReader(tmp_path / "a.mkv")
    assert 40 <= len(list(reader)) <= 50


def test_a_file_that_breaks_off_yields_what_is_there(tmp_path):
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(50)]
    with VideoWriter(tmp_path / "a.mp4", fps=25, size=(64, 48)) as writer:
        for image in noise:
            writer.write(image)
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(data[: len(data) * 2 // 3])
    reader = VideoReader(tmp_path / "b.mp4")
    frames = list(reader)
    assert 20 < len(frames) < 50
    (tmp_path / "c.mp4").write_bytes(data[:2500])
    with pytest.raises(MediaError, match=r"c\.mp4 is damaged: no frame"):
        VideoReader(tmp_path / "c.mp4")


# Writing


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".MP4"])
def test_written_frames_come_back_with_their_colours(tmp_path, suffix):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 90), (255, 255, 255), (0, 0, 0)]
    fps = Fraction(30000, 1001)
    with VideoWriter(tmp_path / f"a{suffix}", fps=fps, size=(64, 48)) as writer:
        for colour in colours:
            writer.write(np.full((48, 64, 3), colour, dtype=np.uint8))
    reader = VideoReader(tmp_path / f"a{suffix}")
    frames = list(reader)
    assert float(reader.info.fps) == pytest.approx(float(fps), rel=1e-4)
    assert len(frames) == len(colours)
    for frame, colour in zip(frames, colours, strict=True):
        assert np.abs(frame.image[20, 20].astype(int) - colour).max() <= 4


def test_players_can_start_at_once_and_know_the_colours(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", fps=25, size=(64, 48)) as writer:
        writer.write(level_frame(50))
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.format.name, frame.colorspace, frame.color_range) == ("yuv420p", 1, 1)


def test_odd_sizes_are_padded_by_the_edge(tmp_path):
    image = level_frame(30, height=47, width=63)
    image[-1], image[:, -1] = 200, 200
    with VideoWriter(tmp_path / "a.mp4", fps=25, size=(63, 47), quality=5) as writer:
        writer.write(image)
    (frame,) = VideoReader(tmp_path / "a.mp4")
    assert frame.image.shape == (48, 64, 3)
    assert abs(int(frame.image[47, 63, 0]) - 200) < 15 and abs(int(frame.image[10, 10, 0]) - 30) < 5


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interrupted_writing_keeps_the_old_file(tmp_path, error):
    (tmp_path / "a.mp4").write_text("old")

    def write() -> None:
        with VideoWriter(tmp_path / "a.mp4", fps=25, size=(64, 48)) as writer:
            writer.write(level_frame(0))
            raise error

    with pytest.raises(error):
        write()
    assert (tmp_path / "a.mp4").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_without_frames_is_not_written(tmp_path):
    with pytest.raises(MediaError, match="no frame"), VideoWriter(tmp_path / "a.mp4", fps=25, size=(64, 48)):
        pass
    assert not list(tmp_path.iterdir())


def test_full_disk_while_encoding(tmp_path, monkeypatch):
    def full(*_):
        av.error.err_check(-errno.ENOSPC)

    def write() -> None:
        with VideoWriter(tmp_path / "a.mp4", fps=25, size=(64, 48)) as writer:
            monkeypatch.setattr(writer, "_mux_audio", full)
            writer.write(level_frame(0))

    with pytest.raises(MediaError, match=r"a\.mp4 cannot be written: the disk is full"):
        write()
    assert not list(tmp_path.iterdir())


def test_bad_writer_arguments(tmp_path):
    with pytest.raises(MediaError, match="unknown video suffix"):
        VideoWriter(tmp_path / "a.xyz", fps=25, size=(64, 48))
    with pytest.raises(ValueError, match="fps"):
        VideoWriter(tmp_path / "a.mp4", fps=0, size=(64, 48))
    with pytest.raises(ValueError, match="2 x 2"):
        VideoWriter(tmp_path / "a.mp4", fps=25, size=(0, 48))
    writer = VideoWriter(tmp_path / "a.mp4", fps=25, size=(64, 48))
    with pytest.raises(ValueError, match="with-block"):
        writer.write(level_frame(0))
    with pytest.raises(ValueError, match=r"\(48, 64, 3\)"), writer:
        writer.write(np.zeros((64, 48, 3), dtype=np.uint8))
    with (
        pytest.raises(MediaError, match="does not exist"),
        VideoWriter(tmp_path / "no" / "a.mp4", fps=25, size=(64, 48)),
    ):
        pytest.fail("the block must not run")
    assert not list(tmp_path.iterdir())


# Sound


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "flac"])
def test_sound_is_copied_and_cut_to_the_video(tmp_path, codec):
    source = make_video(tmp_path / "in.mp4", [level_frame(5 * i) for i in range(50)], audio_codec=codec, seconds=2.0)
    with VideoWriter(tmp_path / "out.mp4", fps=25, size=(64, 48), audio_from=source) as writer:
        for i in range(25):
            writer.write(level_frame(5 * i))
    name, payloads, start, end = audio_packets(tmp_path / "out.mp4")
    source_name, source_payloads, source_start, _ = audio_packets(source)
    assert name == source_name
    assert payloads == source_payloads[: len(payloads)]
    assert start == pytest.approx(source_start, abs=1e-3)
    assert 1.0 <= end < 1.0 + 0.1
    assert VideoReader(tmp_path / "out.mp4").info.has_audio
    assert len(list(VideoReader(tmp_path / "out.mp4"))) == 25


def test_sound_and_picture_are_interleaved(tmp_path):
    source = make_video(tmp_path / "in.mp4", [level_frame(0)] * 250, audio_codec="aac", seconds=10.0)
    with VideoWriter(tmp_path / "out.mp4", fps=25, size=(64, 48), audio_from=source) as writer:
        for frame in VideoReader(source):
            writer.write(frame.image)
    with av.open(str(tmp_path / "out.mp4")) as container:
        places = [(p.pos, p.stream.type) for p in container.demux() if p.size]
    kinds = [kind for _, kind in sorted(places)]
    assert kinds.index("video") < 5
    assert "video" in kinds[len(kinds) // 2 :] and "audio" in kinds[: len(kinds) // 2]


def test_sound_that_mp4_cannot_hold_is_encoded(tmp_path):
    source = make_video(tmp_path / "in.mkv", [level_frame(0)] * 50, audio_codec="pcm_s16le", seconds=2.0)
    for name, codec in (("out.mp4", "aac"), ("out.mov", "pcm_s16le"), ("out.mkv", "pcm_s16le")):
        with VideoWriter(tmp_path / name, fps=25, size=(64, 48), audio_from=source) as writer:
            for _ in range(30):
                writer.write(level_frame(0))
        found, _, _, end = audio_packets(tmp_path / name)
        assert found == codec
        assert end == pytest.approx(1.2, abs=0.1)
        assert loudness_at(tmp_path / name, 0.6) > 3000


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_starts_with_the_picture_when_the_source_starts_late(tmp_path, suffix):
    # The picture begins at 0.5 s; the tone lasts from 0 to 1 s, hence half a second remains of it.
    times = [Fraction(1, 2) + Fraction(i, 25) for i in range(50)]
    source = make_video(tmp_path / "in.mkv", [level_frame(0)] * 50, times=times, audio_codec="aac", seconds=1.0)
    with VideoWriter(tmp_path / f"out{suffix}", fps=25, size=(64, 48), audio_from=source) as writer:
        for _ in range(50):
            writer.write(level_frame(0))
    assert loudness_at(tmp_path / f"out{suffix}", 0.3) > 3000
    assert loudness_at(tmp_path / f"out{suffix}", 0.6) < 100


def test_sound_of_a_sound_file_and_of_a_silent_one(tmp_path, video_path):
    with av.open(str(tmp_path / "tone.wav"), "w") as output:
        write_sine(output, output.add_stream("pcm_s16le", rate=48000, layout="mono"), seconds=0.5)
    for source, has_audio in ((tmp_path / "tone.wav", True), (video_path, False)):
        with VideoWriter(tmp_path / "out.mp4", fps=25, size=(64, 48), audio_from=source) as writer:
            for _ in range(25):
                writer.write(level_frame(0))
        reader = VideoReader(tmp_path / "out.mp4")
        assert reader.info.has_audio is has_audio
        assert len(list(reader)) == 25


def test_unreadable_sound_is_told_before_any_work(tmp_path):
    (tmp_path / "bad.mp4").write_text("hello")
    with (
        pytest.raises(MediaError, match=r"bad\.mp4"),
        VideoWriter(tmp_path / "out.mp4", fps=25, size=(64, 48), audio_from=tmp_path / "bad.mp4"),
    ):
        pytest.fail("the block must not run")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.mp4"]


def test_frames_beyond_4k_are_reduced_while_they_are_decoded(tmp_path):
    y, x = np.mgrid[0:180, 0:7680]
    wide = np.stack([x // 32, y, 255 - x // 64], axis=-1).astype(np.uint8)
    path = make_video(tmp_path / "wide.mp4", [wide, wide])
    with VideoReader(path) as video:
        frames = [frame.image for frame in video]
        assert (video.info.width, video.info.height) == (4096, 96)
    assert [frame.shape for frame in frames] == [(96, 4096, 3)] * 2
    expected = np.asarray(Image.fromarray(wide).resize((4096, 96), Image.Resampling.BOX))
    assert np.abs(frames[0].astype(int) - expected).mean() < 3


def test_a_tall_frame_beyond_4k_keeps_its_shape(tmp_path):
    path = make_video(tmp_path / "tall.mp4", [level_frame(90, height=6144, width=96)])
    with VideoReader(path) as video:
        assert next(iter(video)).image.shape == (video.info.height, video.info.width, 3) == (4096, 64, 3)


@pytest.mark.parametrize(("width", "height"), [(1920, 64), (64, 1920), (4096, 128), (175, 143)])
def test_ordinary_frames_are_those_of_libav_bit_for_bit(tmp_path, width, height):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, "bgr0"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        output.mux(stream.encode(None))
    with VideoReader(tmp_path / "a.mkv") as video:
        np.testing.assert_array_equal(next(iter(video)).image, noise)


def test_frames_too_large_for_any_camera_are_refused(video_path, monkeypatch):
    monkeypatch.setattr(container_module, "_LARGEST_PIXELS", 1000)
    with pytest.raises(MediaError, match=r"in\.mp4 is too large: 64 x 48 pixels a frame, the limit is"):
        VideoReader(video_path)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nin.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile in.mp4\n",
    ],
)
def test_a_list_of_other_files_is_neither_video_nor_sound(tmp_path, video_path, text):
    path = tmp_path / "list.mp4"
    path.write_text(text)
    with pytest.raises(MediaError, match=r"list\.mp4 is not a video"), open_input(path):
        pass
    with pytest.raises(MediaError, match=r"list\.mp4 is not a video"):
        VideoReader(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_a_picture_is_no_video(tmp_path, suffix):
    Image.new("RGB", (64, 48)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(MediaError, match="is not a video"):
        VideoReader(tmp_path / f"a.{suffix}")
