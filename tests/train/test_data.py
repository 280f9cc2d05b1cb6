"""How pairs are drawn, and how photos are made to look like those of other times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmfa.geometry import euler_to_matrix, geodesic_angle
from mmfa.priors.pose import head_pose, template
from mmfa.train.config import TrainConfig
from mmfa.train.data import Augmentation, Clip, ClipDataset, Pair, Tone
from mmfa.train.trainer import Trainer


def tones(count: int = 300) -> list[Tone]:
    generator = torch.Generator().manual_seed(0)
    return [Tone.draw(generator) for _ in range(count)]


def test_every_tone_stays_in_range_and_keeps_the_order_of_light_and_dark() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 8, 64)
    extremes = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).round()
    for tone in tones():
        for images in (ramp, extremes):
            toned = tone(images)
            assert toned.shape == images.shape and bool(toned.isfinite().all())
            assert float(toned.min()) >= 0 and float(toned.max()) <= 1
        assert bool((tone(ramp).diff(dim=-1) >= 0).all()) and float(tone(ramp).amax() - tone(ramp).amin()) > 0.15


def test_tones_are_of_every_kind() -> None:
    drawn = tones()
    black_and_white = [
        tone for tone in drawn if tone.colour == 0 and bool((tone.low == 0).all()) and bool((tone.high == 1).all())
    ]
    old = [tone for tone in drawn if tone.colour < 0.31 and float(tone.high[0]) > float(tone.high[2])]
    dark = [tone for tone in drawn if tone.gamma >= 1.4]
    pale = [tone for tone in drawn if tone.colour == 1 and float(tone.low[0]) > 0 and float(tone.low[0]) == float(tone.low[2])]
    tinted = [tone for tone in drawn if tone.colour == 1 and len(set(tone.high.tolist())) == 3]
    assert all(len(kind) > len(drawn) / 10 for kind in (black_and_white, old, dark, pale, tinted))


def test_black_and_white_has_one_channel_and_the_luma_of_the_photo() -> None:
    images = torch.rand(2, 3, 8, 8)
    toned = Tone(0.0, 1.0, torch.zeros(3), torch.ones(3))(images)
    torch.testing.assert_close(toned[:, 0], toned[:, 1])
    torch.testing.assert_close(toned[:, 1], toned[:, 2])
    luma = 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]
    torch.testing.assert_close(toned[:, 0], luma, atol=1e-3, rtol=0)
    torch.testing.assert_close(Tone(1.0, 1.0, torch.zeros(3), torch.ones(3))(images), images, atol=1e-3, rtol=0)


def test_both_pictures_of_a_pair_have_one_tone(config: TrainConfig) -> None:
    data = Trainer(replace(config, anchor_steps=0), quiet=True).data
    augmentation = Augmentation(tone=1.0)
    generator = torch.Generator().manual_seed(3)
    pairs = data.draw(8, generator, augmentation=augmentation)
    assert all(pair.tone is not None for pair in pairs)
    for pair in pairs:
        assert pair.tone is not None
        plain = replace(pair, tone=None).images(size=64)
        torch.testing.assert_close(pair.images(size=64), pair.tone(plain))
    without = data.draw(8, torch.Generator().manual_seed(3))
    assert all(pair.tone is None for pair in without)
    assert [(pair.source, pair.driving) for pair in pairs] == [(pair.source, pair.driving) for pair in without]
    some = data.draw(200, torch.Generator().manual_seed(4), augmentation=Augmentation(tone=0.3))
    assert 0.2 < sum(pair.tone is not None for pair in some) / 200 < 0.4


def turned_clip(yaws: list[float]) -> Clip:
    """A clip of the mean face, turned by so many degrees in each frame, with nothing else in it."""
    face = torch.zeros(478, 3)
    face[:468] = template()[0]
    turns = euler_to_matrix(torch.zeros(len(yaws)), torch.tensor(yaws), torch.zeros(len(yaws)))
    points = 0.4 * face @ turns.transpose(1, 2)
    return Clip(Path("nowhere"), "someone", len(yaws), held=(points, face.expand(len(yaws), -1, -1)))


def data_of(clip: Clip) -> ClipDataset:
    data = ClipDataset.__new__(ClipDataset)
    data.size, data.people, data.stills, data.clips = 64, {clip.person: [clip]}, [], [clip]
    return data


def angle(pair: Pair) -> float:
    """Degrees between its two heads."""
    rotation = head_pose(pair.clip.points([pair.source, pair.driving])).rotation
    return float(geodesic_angle(rotation[:1], rotation[1:]))


@pytest.fixture
def clip() -> Clip:
    return turned_clip([float(yaw) for yaw in range(-30, 31, 3)])


def test_of_several_candidates_the_one_that_is_turned_farthest_drives(clip: Clip) -> None:
    """Drawn anew: the source, then the candidates, as without `turns`."""
    data = data_of(clip)
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        for limit in (1, 1):  # a person, a clip
            torch.randint(limit, (1,), generator=generator)
        source, *candidates = (int(torch.randint(clip.length, (1,), generator=generator)) for _ in range(5))
        (pair,) = data.draw(1, torch.Generator().manual_seed(seed), candidates=4, turns=1.0)
        assert pair.source == source and pair.driving in candidates
        assert angle(pair) == pytest.approx(max(3.0 * abs(source - one) for one in candidates), abs=0.1)


def test_turns_make_pairs_with_large_turns(clip: Clip) -> None:
    def mean(turns: float) -> float:
        pairs = data_of(clip).draw(300, torch.Generator().manual_seed(0), candidates=4, turns=turns)
        return float(torch.tensor([angle(pair) for pair in pairs]).mean())

    assert mean(1.0) > mean(0.0) + 3 and mean(1.0) > 30, "degrees; any two frames are 21 apart on average"
