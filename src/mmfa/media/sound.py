"""The sound of one media file, copied or encoded into another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from mmfa.errors import MediaError
from mmfa.media.container import start_seconds, video_stream


def sound_packets(source: InputContainer, output: OutputContainer, *, copied: set[str] | None) -> Iterator[Packet[AudioStream]]:
    """Add a sound stream to `output` at once, and return its packets, timed from the start of the video.

    Sound in one of the `copied` codecs (None: in any) is copied, other sound encoded to AAC. No packets where the source has
    no sound. Raises MediaError for sound in an unknown codec.
    """
    if not source.streams.audio:
        return iter(())
    stream = source.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError(f"{source.name} has sound in a codec that cannot be read.")
    video = video_stream(source)
    start = start_seconds(stream if video is None else video) or 0.0
    if copied is None or stream.codec_context.codec.canonical_name in copied:
        return _copied(source, stream, output.add_stream_from_template(stream), start=start)
    rate = stream.rate if stream.rate in (44100, 48000) else 48000
    layout = "mono" if stream.channels == 1 else "stereo"
    encoder: AudioStream = output.add_stream("aac", rate=rate, layout=layout)
    encoder.bit_rate = 96_000 * encoder.channels
    return _encoded(source, stream, encoder, start=start)


def _copied(source: InputContainer, stream: AudioStream, target: AudioStream, *, start: float) -> Iterator[Packet[AudioStream]]:
    previous: int | None = None
    for packet in _readable(source, stream):
        # The last, empty packet has no time; one going back in time (a damaged file) would be refused.
        if packet.pts is None or packet.dts is None or packet.time_base is None:
            continue
        if previous is not None and packet.dts <= previous:
            continue
        previous = packet.dts
        shift = round(start / packet.time_base)
        # One packet before the start is kept: the decoder needs it to begin cleanly.
        if packet.pts + 2 * (packet.duration or 0) < shift:
            continue
        packet.pts -= shift
        packet.dts -= shift
        packet.stream = target
        yield packet


def _encoded(source: InputContainer, stream: AudioStream, encoder: AudioStream, *, start: float) -> Iterator[Packet[AudioStream]]:
    resampler = AudioResampler(
        format="fltp", layout=encoder.layout, rate=encoder.rate, frame_size=encoder.codec_context.frame_size
    )
    for packet in _readable(source, stream):
        with suppress(FFmpegError):  # a damaged packet leaves a hole in the sound
            for frame in stream.decode(packet):
                if frame.pts is None or frame.time_base is None:
                    continue
                frame.pts -= round(start / frame.time_base)
                if frame.pts + frame.samples / frame.sample_rate / frame.time_base <= 0:
                    continue
                for piece in resampler.resample(frame):
                    yield from encoder.encode(piece)
    for piece in resampler.resample(None):
        yield from encoder.encode(piece)
    yield from encoder.encode(None)


def _readable(source: InputContainer, stream: AudioStream) -> Iterator[Packet[AudioStream]]:
    """Packets up to the end of the file or to where it breaks off."""
    with suppress(FFmpegError):
        yield from source.demux(stream)


def packet_seconds(packet: Packet[AudioStream]) -> Fraction:
    """When a packet begins."""
    if packet.pts is None or packet.time_base is None:
        return Fraction(0)
    return packet.pts * packet.time_base
