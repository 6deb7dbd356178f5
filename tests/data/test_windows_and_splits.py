"""Windows stay inside their segments; splits hold out whole segments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajgen.data.records import BeadFrames
from trajgen.data.splits import split_by_segment
from trajgen.data.topology import BeadTopology
from trajgen.data.windows import find_windows, gather_windows, lag_stride
from trajgen.errors import InputError

TOPOLOGY = BeadTopology.from_residues(("GLY",))
LENGTHS = st.lists(st.integers(1, 14), min_size=1, max_size=4)


def part_of(lengths: list[int], time_step_ps: float | None = 1.0) -> BeadFrames:
    segments = np.repeat(np.arange(len(lengths)), lengths).astype(np.int64)
    positions = np.zeros((len(segments), 1, 3), dtype=np.float32)
    positions[:, 0, 0] = np.arange(len(segments))
    return BeadFrames(TOPOLOGY, positions, segments, time_step_ps)


@given(
    parts=st.lists(LENGTHS, min_size=1, max_size=3),
    stride=st.integers(1, 4),
    length=st.integers(3, 6),
    shift=st.integers(1, 3),
)
def test_windows_are_evenly_spaced_frames_of_one_segment(
    parts: list[list[int]], stride: int, length: int, shift: int
) -> None:
    records = [part_of(lengths) for lengths in parts]
    windows = find_windows(records, float(stride), length, shift)
    segment = np.concatenate(
        [record.segments + 100 * number for number, record in enumerate(records)]
    )
    for frames, present in zip(windows.frames, windows.present, strict=True):
        real = frames[present]
        assert len(real) >= 3
        assert len(set(segment[frames])) == 1
        np.testing.assert_array_equal(np.diff(real), stride)
        assert (frames[~present] == real[-1]).all()
    whole = sum(
        len(range(0, n - (length - 1) * stride, shift)) for lengths in parts for n in lengths
    )
    assert windows.present.all(axis=1).sum() == whole


@given(lengths=LENGTHS, stride=st.integers(1, 4))
def test_every_segment_of_two_lags_gives_a_window(lengths: list[int], stride: int) -> None:
    windows = find_windows([part_of(lengths)], float(stride), length=10, shift=1)
    segments = part_of(lengths).segments[windows.frames[:, 0]]
    assert set(segments) == {i for i, n in enumerate(lengths) if n > 2 * stride}


def test_frames_without_a_time_step_give_no_window() -> None:
    windows = find_windows([part_of([20], None), part_of([5])], 1.0, length=5, shift=1)
    assert windows.frames.tolist() == [[20, 21, 22, 23, 24]]
    positions = np.arange(75, dtype=np.float32).reshape(25, 1, 3)
    np.testing.assert_array_equal(gather_windows(positions, windows)[0], positions[20:25])


@pytest.mark.parametrize("lag_ps", [0.5, 2.5, 0.0])
def test_a_lag_that_is_no_multiple_is_refused(lag_ps: float) -> None:
    with pytest.raises(InputError, match="no multiple"):
        lag_stride(lag_ps, 1.0)


def test_a_lag_that_is_a_multiple_up_to_rounding_is_taken() -> None:
    assert lag_stride(0.3, 0.1) == 3


@given(lengths=st.lists(st.integers(1, 20), min_size=2, max_size=20), seed=st.integers(0, 9))
def test_a_split_holds_out_whole_segments(lengths: list[int], seed: int) -> None:
    frames = part_of(lengths)
    train, validation = split_by_segment(frames, 0.2, seed)
    assert (train ^ validation).all()
    assert train.any()
    assert not set(frames.segments[train]) & set(frames.segments[validation])
    assert validation.sum() < 0.2 * frames.n_frames + max(lengths)
    again = split_by_segment(frames, 0.2, seed)[1]
    np.testing.assert_array_equal(validation, again)


def test_one_segment_holds_out_its_end_and_no_share_holds_out_nothing() -> None:
    frames = part_of([10])
    train, validation = split_by_segment(frames, 0.3, seed=0)
    np.testing.assert_array_equal(np.flatnonzero(validation), [7, 8, 9])
    assert train.sum() == 7
    assert not split_by_segment(frames, 0.0, seed=0)[1].any()
    with pytest.raises(InputError, match="validation_fraction"):
        split_by_segment(frames, 1.0, seed=0)
    with pytest.raises(InputError, match="at least 2"):
        split_by_segment(part_of([1]), 0.3, seed=0)
