"""Sequence recovery against counts by hand, binomial intervals, and blind guesses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from trajgen.analysis.design import composition_of, sequence_recovery
from trajgen.errors import InputError
from trajgen.residues import THREE_LETTER

UNIFORM = dict.fromkeys(THREE_LETTER, 0.05)
letters = st.sampled_from(list(THREE_LETTER))


def test_counts_by_hand():
    designs = ["GAVG", "GAAG", "WAVW", "GLLG"]
    found = sequence_recovery(designs, "GAVG", (1, 2), UNIFORM, seed=0)
    assert found.overall.value == pytest.approx(5 / 8)
    assert [(m.label, m.value) for m in found.positions] == [("A2", 0.75), ("V3", 0.5)]
    assert (found.n_designs, found.n_distinct) == (4, 3)


def test_residues_that_were_given_do_not_count():
    wrong_outside = sequence_recovery(["WAVW"], "GAVG", (1, 2), UNIFORM, seed=0)
    assert wrong_outside.overall.value == 1
    right_outside = sequence_recovery(["GWWG"], "GAVG", (1, 2), UNIFORM, seed=0)
    assert right_outside.overall.value == 0


@given(st.lists(st.text(letters, min_size=3, max_size=3), min_size=1, max_size=12))
def test_agrees_with_counting_and_does_not_mind_the_order(designs):
    target = "ACD"
    found = sequence_recovery(designs, target, (0, 2), UNIFORM, seed=3)
    hits = [sum(d[p] == target[p] for p in (0, 2)) for d in designs]
    assert found.overall.value == pytest.approx(np.mean(hits) / 2)
    assert sequence_recovery(designs[::-1], target, (0, 2), UNIFORM, seed=3) == found
    turned = sequence_recovery(designs, target, (2, 0), UNIFORM, seed=3)
    assert turned.overall.value == pytest.approx(found.overall.value)
    assert turned.positions[0].value == found.positions[1].value


def test_interval_is_that_of_a_binomial():
    n, share = 400, 0.3
    designs = ["A"] * int(n * share) + ["G"] * int(n * (1 - share))
    (position,) = sequence_recovery(designs, "A", (0,), UNIFORM, seed=1).positions
    wanted = binom.ppf([0.025, 0.975], n, share) / n
    assert [position.low, position.high] == pytest.approx(wanted.tolist(), abs=0.008)


def test_two_positions_of_one_design_are_not_independent():
    """Designs that are right or wrong as a whole carry half of the information."""
    designs = ["AA"] * 100 + ["GG"] * 100
    together = sequence_recovery(designs, "AA", (0, 1), UNIFORM, seed=1).overall
    mixed = ["AA"] * 50 + ["GG"] * 50 + ["AG"] * 50 + ["GA"] * 50
    apart = sequence_recovery(mixed, "AA", (0, 1), UNIFORM, seed=1).overall
    assert together.value == apart.value == 0.5
    widths = [m.high - m.low for m in (together, apart)]
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(2), rel=0.1)


def test_blind_guesses_reach_the_baselines():
    training = ["AAGG", "AWGA", "AAVA"]
    composition = composition_of(training)
    assert composition["A"] == pytest.approx(7 / 12)
    assert composition["C"] == 0
    generator = np.random.default_rng(0)
    shares = np.array(list(composition.values()))
    draws = generator.choice(list(composition), size=(20_000, 4), p=shares)
    guesses = ["".join(row) for row in draws]
    found = sequence_recovery(guesses, "AAGC", (0, 1, 2, 3), composition, seed=0)
    assert found.random == pytest.approx((7 + 7 + 3 + 0) / 48)
    assert found.overall.value == pytest.approx(found.random, abs=0.01)
    always = sequence_recovery(["AAAA"], "AAGC", (0, 1, 2, 3), composition, seed=0)
    assert always.overall.value == always.most_frequent == 0.5


def test_no_design_and_a_single_design_have_a_reason():
    nothing = sequence_recovery([], "GAVG", (1, 2), UNIFORM, seed=0)
    assert nothing.overall.value is None
    assert nothing.overall.reason == "there is no design"
    assert [m.value for m in nothing.positions] == [None, None]
    assert nothing.random == pytest.approx(0.05)
    single = sequence_recovery(["GAVG"], "GAVG", (1,), UNIFORM, seed=0)
    assert (single.overall.value, single.overall.low) == (1.0, None)
    assert single.overall.reason == "a single design gives no interval"


def test_draws_repeat_for_a_seed():
    designs = ["GAVG", "GAAG", "WAVW", "GLLG"] * 5
    assert sequence_recovery(designs, "GAVG", (1, 2), UNIFORM, seed=4) == sequence_recovery(
        designs, "GAVG", (1, 2), UNIFORM, seed=4
    )


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="'GAV' has 3 residues"):
        sequence_recovery(["GAV"], "GAVG", (1,), UNIFORM, seed=0)
    with pytest.raises(InputError, match="'X' at position 2"):
        sequence_recovery(["GXVG"], "GAVG", (1,), UNIFORM, seed=0)
    for positions in ((), (4,), (-1,), (1, 1)):
        with pytest.raises(InputError, match="positions are"):
            sequence_recovery(["GAVG"], "GAVG", positions, UNIFORM, seed=0)
    for composition in ({}, {"A": 0.5}, {"A": 1.5, "G": -0.5}, {"X": 1.0}):
        with pytest.raises(InputError, match="composition has shares"):
            sequence_recovery(["GAVG"], "GAVG", (1,), composition, seed=0)
    with pytest.raises(InputError, match="no sequences"):
        composition_of([])
