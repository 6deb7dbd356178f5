"""Windows stay inside their segments; splits hold out whole segments."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajgen.data.records import segments_apart
from trajgen.data.splits import MOST_HELD_OUT, split_by_segment, split_timeline
from trajgen.data.timeline import Timeline
from trajgen.data.windows import Runs, Shifts
from trajgen.errors import InputError

LENGTHS = st.lists(st.integers(1, 14), min_size=1, max_size=4)


def segments_of(lengths: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(lengths)), lengths).astype(np.int64)


def timeline_of(*shards: list[int], steps_ps: tuple[float | None, ...] | None = None) -> Timeline:
    return Timeline.of(map(segments_of, shards), steps_ps or (1.0,) * len(shards))


@given(
    parts=st.lists(LENGTHS, min_size=1, max_size=3),
    stride=st.integers(1, 4),
    length=st.integers(3, 6),
)
def test_windows_are_evenly_spaced_frames_of_one_segment(
    parts: list[list[int]], stride: int, length: int
) -> None:
    runs = Runs.find(timeline_of(*parts))
    possible = runs.count(float(stride), length)
    spans = [min((n - 1) // stride + 1, length) for lengths in parts for n in lengths]
    sizes = [n for lengths in parts for n in lengths]
    wanted = sum(n - (m - 1) * stride for n, m in zip(sizes, spans, strict=True) if m >= 3)
    assert possible == wanted
    if not possible:
        with pytest.raises(InputError, match="no run of frames has a window"):
            runs.draw(np.array([float(stride)]), length, np.zeros(1))
        return
    places = (np.arange(possible) + 0.5) / possible
    windows = runs.draw(np.full(possible, float(stride)), length, places)
    assert len({tuple(row) for row in windows.frames}) == possible  # each start once
    segment = np.concatenate(
        [segments_of(lengths) + 100 * number for number, lengths in enumerate(parts)]
    )
    for frames, present, times in zip(
        windows.frames, windows.present, windows.times_ps, strict=True
    ):
        real = frames[present]
        assert len(real) >= 3
        assert len(set(segment[frames])) == 1
        np.testing.assert_array_equal(np.diff(real), stride)
        np.testing.assert_array_equal(times, frames - frames[0])
        assert (frames[~present] == real[-1]).all()


@given(lengths=LENGTHS, stride=st.integers(1, 4))
def test_every_segment_of_two_lags_gives_a_window(lengths: list[int], stride: int) -> None:
    runs = Runs.find(timeline_of(lengths))
    long_enough = {i for i, n in enumerate(lengths) if n > 2 * stride}
    places = (np.arange(200) + 0.5) / 200
    if long_enough:
        windows = runs.draw(np.full(200, float(stride)), 10, places)
        assert set(segments_of(lengths)[windows.frames[:, 0]]) == long_enough


def test_frames_without_a_time_step_give_no_window() -> None:
    runs = Runs.find(timeline_of([20], [5], steps_ps=(None, 1.0)))
    windows = runs.draw(np.array([1.0]), 5, np.zeros(1))
    assert windows.frames.tolist() == [[20, 21, 22, 23, 24]]
    none = Runs.find(timeline_of([20], steps_ps=(None,)))
    assert none.shortest_lag_ps() is none.longest_lag_ps(5) is None
    assert none.count(1.0, 5) == 0


def test_each_run_serves_the_lags_near_its_own() -> None:
    runs = Runs.find(timeline_of([50], [50], steps_ps=(0.3, 2.0)))
    lags = np.array([0.3, 0.9, 1.0, 2.0, 4.1])
    windows = runs.draw(lags, 4, np.full(5, 0.999))
    np.testing.assert_allclose(windows.lag_ps, [0.3, 0.9, 0.9, 2.0, 4.0])
    assert (windows.frames[:, 0] < 50).tolist() == [True, True, True, False, False]
    assert runs.shortest_lag_ps() == 0.3
    assert runs.longest_lag_ps(8) == 98 / 14
    with pytest.raises(InputError, match=r"at lag_ps 0\.1"):
        runs.draw(np.array([0.3, 0.1]), 4, np.zeros(2))


def test_cells_may_lie_before_and_behind_their_places() -> None:
    runs = Runs.find(timeline_of([40], steps_ps=(0.5,)))
    earlier = np.array([[0, 0, 0, 0], [0, 0, 0, 6], [-9, 0, 0, 0]])
    shifts = Shifts(earlier, np.zeros_like(earlier))
    windows = runs.draw(np.full(3, 5.0), 4, np.zeros(3), shifts)
    assert windows.frames.tolist() == [[0, 10, 20, 30], [0, 10, 20, 24], [9, 10, 20, 30]]
    assert windows.times_ps.tolist() == [[0, 5, 10, 15], [0, 5, 10, 12], [0, 0.5, 5.5, 10.5]]
    assert windows.lag_ps.tolist() == [5.0] * 3
    assert windows.strides.tolist() == [10] * 3


def test_cells_on_both_sides_may_lie_as_far_out_as_their_run_goes() -> None:
    runs = Runs.find(timeline_of([7], [30]))
    outward = np.array([[-4, -4, 0, 0, 6]] * 3)
    shifts = Shifts(np.zeros_like(outward), outward)
    windows = runs.draw(np.full(3, 2.0), 5, np.array([0.0, 0.5, 0.999]), shifts)
    # The second run begins at frame 7 and has 22 starts; the first is too short for whole windows.
    assert windows.frames[1].tolist() == [13, 15, 21, 23, 31]
    assert windows.times_ps[1].tolist() == [0, 2, 8, 10, 18]
    assert windows.frames[2].tolist() == [24, 26, 32, 34, 36]  # the last frame of the run
    assert windows.frames[0, 0] == 0


def test_windows_go_backward_where_their_run_may() -> None:
    runs = Runs.find(timeline_of([12], [12]), reversible=np.array([True, False]))
    assert runs.reversible.tolist() == [True, False]
    outward = np.array([[-2, 0, 0, 1]] * 4)
    shifts = Shifts(np.zeros_like(outward), outward)
    backward = np.array([True, False, True, True])
    places = np.array([0.3, 0.3, 0.7, 0.0])
    windows = runs.draw(np.full(4, 2.0), 4, places, shifts, backward)
    assert windows.frames.tolist() == [
        [11, 7, 5, 2],
        [1, 5, 7, 10],
        [12, 16, 18, 21],
        [8, 4, 2, 0],
    ]
    assert windows.times_ps[0].tolist() == [0, 4, 6, 9]
    without = runs.draw(np.full(4, 2.0), 4, places, None, backward)
    assert without.frames[0].tolist() == without.frames[1][::-1].tolist()


@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=12), st.floats(0.05, 0.5), st.integers(0, 9)
)
def test_hardly_more_than_the_share_is_held_out(
    lengths: list[int], fraction: float, seed: int
) -> None:
    segments = np.repeat(np.arange(len(lengths)), lengths)
    in_train, held_out = split_by_segment(segments, fraction, seed)
    assert np.array_equal(in_train, ~held_out)
    wanted = round(fraction * len(segments))
    assert wanted <= held_out.sum() <= MOST_HELD_OUT * wanted
    assert in_train.any()
    cut = [name for name in set(segments) if len(set(held_out[segments == name])) > 1]
    assert len(cut) <= 1
    if cut:  # it would have been too much, and its end alone is held out
        assert held_out.sum() == wanted
        assert not held_out[segments == cut[0]][0]


def test_single_frames_are_drawn_from_all_frames_by_their_weights() -> None:
    runs = Runs.find(timeline_of([4, 2], steps_ps=(0.5,)))
    found = runs.draw_frames((np.arange(6000) + 0.5) / 6000)
    assert np.bincount(found).tolist() == [1000] * 6
    weighted = replace(runs, weights=np.array([1.0, 0.0, 0.0, 2.0, 3.0, 0.0]))
    found = weighted.draw_frames((np.arange(6000) + 0.5) / 6000)
    assert np.bincount(found, minlength=6).tolist() == [1000, 0, 0, 2000, 3000, 0]
    assert weighted.draw_frames(np.array([0.0, np.nextafter(1.0, 0.0)])).tolist() == [0, 4]


@given(
    parts=st.lists(st.lists(st.integers(0, 3), max_size=25), min_size=1, max_size=3),
    continues=st.lists(st.booleans(), min_size=3, max_size=3),
    fraction=st.floats(0.0, 0.6),
    seed=st.integers(0, 9),
)
def test_stretches_say_of_frames_what_a_number_for_each_would(
    parts: list[list[int]], continues: list[bool], fraction: float, seed: int
) -> None:
    every = [np.array(part, dtype=np.int64) for part in parts]
    joined = np.concatenate(segments_apart(every, continues[: len(every)]))
    if len(joined) < 2:
        return
    timeline = Timeline.of(every, [1.0] * len(every), continues[: len(every)])
    assert timeline.n_segments == len(set(joined))
    both = split_timeline(timeline, fraction, seed)
    shard = np.repeat(np.arange(len(every)), [len(part) for part in every])
    for mask, split in zip(split_by_segment(joined, fraction, seed), both, strict=True):
        runs = Runs.find(split)
        frames = runs.frames.at(np.arange(len(runs.frames)))
        wanted = []
        for segment in set(joined):
            own = np.flatnonzero(mask & (joined == segment))
            # An empty shard between ends a run.
            wanted += [
                run.tolist() for run in np.split(own, 1 + np.flatnonzero(np.diff(shard[own]) > 1))
            ]
        found = [
            frames[begin : begin + length].tolist()
            for begin, length in zip(runs.begins, runs.lengths, strict=True)
        ]
        assert found == [run for run in wanted if run]
        assert [row.tolist() for row in runs.frames.chunks(7)] == [
            frames[i : i + 7].tolist() for i in range(0, len(frames), 7)
        ]
        assert runs.frames.evenly(5).tolist() == frames[:: max(1, -(-len(frames) // 5))].tolist()


def test_a_timeline_takes_memory_by_segments() -> None:
    timeline = timeline_of([100_000] * 3)
    assert timeline.segments.tolist() == [0, 1, 2]
    assert timeline.stretches.firsts.tolist() == [0, 100_000, 200_000]
    assert len(timeline.stretches) == timeline.n_frames.sum() == 300_000


def test_a_segment_that_goes_on_in_the_next_shard_is_one_run() -> None:
    shards = [segments_of([3, 4]), segments_of([5]), segments_of([6, 2])]
    timeline = Timeline.of(shards, [1.0] * 3, [False, True, True])
    runs = Runs.find(timeline)
    assert runs.lengths.tolist() == [3, 4 + 5 + 6, 2]
    windows = runs.draw(np.full(1, 7.0), 3, np.zeros(1))
    assert windows.frames.tolist() == [[3, 10, 17]]
    apart = Runs.find(Timeline.of(shards, [1.0, 1.0, 2.0], [False, True, True]))
    assert apart.lengths.tolist() == [3, 4 + 5, 6, 2]
    turned = Runs.find(timeline, np.array([False, True, True]))
    assert turned.lengths.tolist() == [3, 4, 5 + 6, 2]
    assert turned.reversible.tolist() == [False, False, True, True]
    left_out = timeline.of_shards(np.array([True, False, True]))
    assert Runs.find(left_out).lengths.tolist() == [3, 4, 6, 2]
    training, validation = split_timeline(timeline, 0.5, seed=0)
    assert Runs.find(training).lengths.sum() == Runs.find(validation).lengths.sum() == 10


@given(
    weights=st.lists(st.sampled_from([0.0, 0.25, 1.0, 7.0]), min_size=12, max_size=30),
    cut=st.integers(3, 9),
)
def test_windows_begin_by_weight(weights: list[float], cut: int) -> None:
    lengths = [cut, len(weights) - cut]
    runs = replace(Runs.find(timeline_of(lengths)), weights=np.array(weights))
    starts = [i for i in range(len(weights)) if i < cut - 2 or cut <= i < len(weights) - 2]
    total = sum(weights[i] for i in starts)
    assert runs.serves(1.0, 3) == (total > 0)
    if total == 0:
        with pytest.raises(InputError, match="no run of frames has a window"):
            runs.draw(np.ones(1), 3, np.zeros(1))
        return
    places = (np.arange(2000) + 0.5) / 2000
    windows = runs.draw(np.ones(2000), 3, places)
    found = np.bincount(windows.frames[:, 0], minlength=len(weights))
    wanted = np.zeros(len(weights))
    wanted[starts] = np.array(weights)[starts] / total
    assert np.abs(found / 2000 - wanted).max() <= 1e-3
    assert (np.diff(windows.frames, axis=1) == 1).all()


def test_windows_of_two_frames_are_refused() -> None:
    with pytest.raises(InputError, match="a window of 2 frames is too short"):
        Runs.find(timeline_of([9])).count(1.0, 2)


@given(lengths=st.lists(st.integers(1, 20), min_size=2, max_size=20), seed=st.integers(0, 9))
def test_a_split_holds_out_whole_segments_or_the_end_of_one(lengths: list[int], seed: int) -> None:
    segments = segments_of(lengths)
    train, validation = split_by_segment(segments, 0.2, seed)
    assert (train ^ validation).all()
    assert train.any()
    assert len(set(segments[train]) & set(segments[validation])) <= 1
    assert validation.sum() < 0.2 * len(segments) + max(lengths)
    again = split_by_segment(segments, 0.2, seed)[1]
    np.testing.assert_array_equal(validation, again)


def test_one_segment_holds_out_its_end_and_no_share_holds_out_nothing() -> None:
    segments = segments_of([10])
    train, validation = split_by_segment(segments, 0.3, seed=0)
    np.testing.assert_array_equal(np.flatnonzero(validation), [7, 8, 9])
    assert train.sum() == 7
    assert not split_by_segment(segments, 0.0, seed=0)[1].any()
    with pytest.raises(InputError, match="validation_fraction"):
        split_by_segment(segments, 1.0, seed=0)
    with pytest.raises(InputError, match="at least 2"):
        split_by_segment(segments_of([1]), 0.3, seed=0)
