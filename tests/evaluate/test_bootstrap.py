"""The interval: seeded, by clips, and holding the truth as often as it says."""

import math

import numpy as np
import pytest

from mmfa.evaluate.bootstrap import bootstrap, correlation, frame_mean
from mmfa.evaluate.validation import coverage


def test_intervals_hold_the_true_mean_when_clips_are_resampled() -> None:
    assert 0.87 <= coverage(trials=150) <= 0.99
    assert coverage(trials=60, by_clip=False) < 0.6


def test_same_seed_same_interval() -> None:
    values, clips = np.random.default_rng(3).normal(size=60), np.repeat(np.arange(6), 10)
    first = bootstrap(values, groups=clips)
    assert first == bootstrap(values, groups=clips) != bootstrap(values, groups=clips, seed=1)
    assert first.low < first.value < first.high and (first.groups, first.count) == (6, 60)


def test_agrees_with_theory_for_a_mean() -> None:
    values = np.random.default_rng(5).normal(size=400)
    interval = bootstrap(values, groups=np.arange(400), samples=4000)
    half = 1.96 * values.std(ddof=1) / 20
    assert interval.high - interval.value == pytest.approx(half, rel=0.08)
    assert interval.value - interval.low == pytest.approx(half, rel=0.08)


def test_order_of_rows_and_missed_frames() -> None:
    values, clips = np.arange(12.0), np.repeat(["a", "b", "c"], 4)
    order = np.random.default_rng(0).permutation(12)
    assert bootstrap(values[order], groups=clips[order]).low == pytest.approx(bootstrap(values, groups=clips).low)
    holes = values.copy()
    holes[4:8] = math.nan
    interval = bootstrap(holes, groups=clips)
    assert (interval.groups, interval.count) == (2, 8) and interval.value == pytest.approx(frame_mean(holes)) == 5.5


def test_statistic_of_several_columns() -> None:
    pairs = np.random.default_rng(2).normal(size=(50, 1)) @ np.ones((1, 2)) + 0.1 * np.random.default_rng(4).normal(size=(50, 2))
    interval = bootstrap(pairs, groups=np.repeat(np.arange(10), 5), statistic=correlation)
    assert 0.95 < interval.low < interval.value < interval.high < 1


def test_one_clip_has_no_interval() -> None:
    interval = bootstrap([1.0, 2.0], groups=[0, 0])
    assert interval.value == 1.5 and math.isnan(interval.low) and math.isnan(interval.high)
    assert math.isnan(bootstrap([math.nan], groups=[0]).value)


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one group for each"):
        bootstrap([1.0, 2.0], groups=[0])
