"""States of a reference: the wells of a known process, determinism, and honest gaps."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from trajgen.analysis.frame_table import KEPT_TICS
from trajgen.analysis.kinetics.evaluate_kinetics import KineticsSettings
from trajgen.analysis.kinetics.states import StateModel, StateSettings, fit_states
from trajgen.errors import InputError
from trajgen.settings import parse_settings

SETTINGS = StateSettings(microstates=20, macrostates=3, tics=2)


def wells(n_segments: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frames that hop rarely between three wells, their segments, and their wells."""
    generator = np.random.default_rng(seed)
    hop = generator.uniform(size=(n_segments, length)) < 0.02
    step = np.where(hop, generator.choice([1, 2], size=hop.shape), 0)
    well = (generator.integers(3, size=(n_segments, 1)) + np.cumsum(step, axis=1)) % 3
    places = np.array([[-2.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    frames = places[well] + 0.2 * generator.normal(size=(n_segments, length, 2))
    return frames.reshape(-1, 2), np.repeat(np.arange(n_segments), length), well.ravel()


def test_macrostates_are_the_wells_in_order_of_the_slowest_coordinate():
    tics, segments, well = wells(8, 1000, seed=0)
    fit = fit_states(tics, segments, None, 1, SETTINGS, seed=1)
    assert (fit.reason, fit.left_out, fit.model.n_macrostates) == (None, {}, 3)
    found = fit.model.macrostates(fit.model.assign(tics))
    assert (found == well).mean() > 0.99


def test_frames_go_to_the_nearest_centre_in_chunks(monkeypatch):
    tics, segments, _ = wells(2, 500, seed=1)
    model = fit_states(tics, segments, None, 1, SETTINGS, seed=1).model
    assert model.centres.shape == (20, 2)
    wanted = cdist(tics, model.centres).argmin(axis=1)
    np.testing.assert_array_equal(model.assign(tics), wanted)
    monkeypatch.setattr("trajgen.analysis.kinetics.states.CHUNK", 37)
    np.testing.assert_array_equal(model.assign(tics), wanted)
    assert model.assign(tics[:0]).shape == (0,)


def test_only_the_leading_coordinates_are_clustered():
    tics, segments, _ = wells(2, 500, seed=2)
    noisy = np.hstack([tics, 100 * np.random.default_rng(0).normal(size=(len(tics), 1))])
    with_noise = fit_states(noisy, segments, None, 1, SETTINGS, seed=1).model
    without = fit_states(tics, segments, None, 1, SETTINGS, seed=1).model
    np.testing.assert_array_equal(with_noise.centres, without.centres)
    np.testing.assert_array_equal(with_noise.assign(noisy), without.assign(tics))


def test_same_seed_same_states_and_another_seed_others():
    tics, segments, _ = wells(4, 500, seed=3)
    fits = [fit_states(tics, segments, None, 1, SETTINGS, seed).model for seed in (1, 1, 2)]
    np.testing.assert_array_equal(fits[0].centres, fits[1].centres)
    np.testing.assert_array_equal(fits[0].macrostate_of, fits[1].macrostate_of)
    assert not np.array_equal(fits[0].centres, fits[2].centres)


def test_a_part_without_a_way_back_is_left_out_and_counted():
    tics, segments, _ = wells(4, 500, seed=4)
    far = np.random.default_rng(0).normal(size=(30, 2)) * 0.01 + [50, 50]
    tics, segments = np.concatenate([tics, far]), np.concatenate([segments, np.full(30, 9)])
    fit = fit_states(tics, segments, None, 1, SETTINGS, seed=1)
    found = fit.model.macrostates(fit.model.assign(tics))
    assert (found[-30:] == -1).all()
    assert (found[:-30] >= 0).all()
    assert fit.left_out == {"in a microstate that is not connected with the others": 30}


def test_weights_of_zero_hide_the_transitions_of_a_part():
    tics, segments, well = wells(6, 800, seed=5)
    weights = (well != 2).astype(float)
    fit = fit_states(tics, segments, weights, 1, SETTINGS, seed=1)
    found = fit.model.macrostates(fit.model.assign(tics))
    assert (found[well == 2] == -1).mean() > 0.9
    assert (found[well != 2] >= 0).mean() > 0.9


def test_fewer_states_than_asked_for_are_said():
    tics = np.tile([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [2.0, 0.0]], (20, 1))
    fit = fit_states(tics, np.zeros(80, dtype=int), None, 1, StateSettings(), seed=1)
    assert len(fit.model.centres) == 3
    assert fit.model.n_macrostates == 3
    assert any("3 different ones) carry 3 microstates of the 100" in n for n in fit.notes)
    assert any("3 macrostates of the 10" in note for note in fit.notes)


def test_a_microstate_has_ten_frames_or_more_on_average():
    tics, segments, _ = wells(1, 120, seed=0)
    fit = fit_states(tics, segments, None, 1, SETTINGS, seed=1)
    assert len(fit.model.centres) == 12
    assert any("carry 12 microstates of the 20" in note for note in fit.notes)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_too_few_frames_are_a_reason(length):
    tics = np.arange(2.0 * length).reshape(length, 2)
    fit = fit_states(tics, np.arange(length), None, 1, SETTINGS, seed=1)
    assert fit.model is None
    assert ("no frame" if length == 0 else "no Markov model at a lag of 1 frames") in fit.reason


def test_every_macrostate_has_a_microstate_and_numbers_have_no_gap():
    generator = np.random.default_rng(6)
    tics = np.cumsum(generator.normal(size=(3000, 2)), axis=0) * 0.1
    settings = StateSettings(microstates=30, macrostates=8)
    model = fit_states(tics, np.zeros(3000, dtype=int), None, 5, settings, seed=1).model
    used = np.unique(model.macrostate_of[model.macrostate_of >= 0])
    np.testing.assert_array_equal(used, np.arange(model.n_macrostates))


def test_missing_coordinates_are_an_error():
    model = StateModel(np.zeros((2, 3)), np.array([0, 1]), 2)
    with pytest.raises(InputError, match="fitted on 3"):
        model.assign(np.zeros((5, 2)))


def test_more_slow_coordinates_than_a_table_keeps_are_refused():
    assert StateSettings(tics=KEPT_TICS).tics == 4
    with pytest.raises(InputError, match=r"'states\.tics' is 5"):
        parse_settings(KineticsSettings, {"states": {"tics": 5}}, "test")
