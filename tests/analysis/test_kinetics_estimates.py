"""Measures of numbers that may be missing: intervals, bounds, floors, and reasons."""

import math

import numpy as np
import pytest

from trajgen.analysis.kinetics.estimates import Estimate, finite, interval, log_ratio, measure

MISSING = Estimate(None, "it is not there")


def rows(values: list[float], missing: int = 0) -> list[Estimate]:
    return [Estimate(value) for value in values] + [MISSING] * missing


def test_interval_is_that_of_the_resamples_around_the_value():
    resamples = np.random.default_rng(0).normal(loc=7, scale=2, size=100_000)
    low, high = interval(5.0, resamples, (-math.inf, math.inf))
    assert low == pytest.approx(5 - 2 * 1.96, abs=0.05)
    assert high == pytest.approx(5 + 2 * 1.96, abs=0.05)
    assert interval(5.0, resamples, (4.0, 6.0)) == (4.0, 6.0)


def test_the_interval_holds_the_value_whatever_single_resamples_do():
    found = measure("m", "ps", rows([1.0, *([0.9, 1.1] * 20), 1e6]))
    assert 0.7 < found.low <= 1 <= found.high


def test_floor_is_the_mean_and_the_largest_of_the_splits():
    found = measure("m", "kT", rows([1.0, 0.9, 1.1]), [Estimate(0.2), Estimate(0.6), MISSING])
    assert (found.value, found.unit, found.reason) == (1.0, "kT", None)
    assert found.floor_mean == pytest.approx(0.4)
    assert found.floor_max == 0.6


def test_what_is_missing_has_a_reason():
    assert measure("m", "1", [MISSING, Estimate(1.0)]).reason == "it is not there"
    alone = measure("m", "1", rows([1.0]))
    assert (alone.value, alone.low) == (1.0, None)
    assert "single block" in alone.reason
    without_floor = measure("m", "1", rows([1.0, 0.9, 1.1]), [MISSING, MISSING])
    assert without_floor.low is not None
    assert without_floor.floor_mean is None
    assert "no floor" in without_floor.reason


def test_an_interval_wants_nine_of_ten_resamples():
    most = measure("m", "1", rows([1.0] * 19, missing=2))
    assert most.low is not None
    few = measure("m", "1", rows([1.0] * 18, missing=3))
    assert (few.value, few.low) == (1.0, None)
    assert few.reason.startswith("3 of 20 resamples gave no number")


def test_ratios_are_symmetric_and_pass_reasons_on():
    assert log_ratio(Estimate(2.0), Estimate(8.0)).value == pytest.approx(math.log(4))
    assert log_ratio(Estimate(8.0), Estimate(2.0)).value == pytest.approx(math.log(4))
    assert log_ratio(Estimate(8.0), MISSING) == MISSING
    assert log_ratio(MISSING, Estimate(8.0)) == MISSING
    assert "zero" in log_ratio(Estimate(0.0), Estimate(8.0)).reason
    assert finite(math.nan, "why") == finite(math.inf, "why") == Estimate(None, "why")
    assert finite(2.0, "why") == Estimate(2.0)
