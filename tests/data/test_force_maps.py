"""Force maps are consistent, agree in the mean, and match a known answer."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from trajgen.data.mapping import (
    FORCE_MAPS,
    aggregate_force_map,
    map_vectors,
    merge_groups,
    position_map,
    slice_force_map,
)
from trajgen.errors import InputError

PAIRS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=14)


@given(pairs=PAIRS)
def test_merged_groups_are_the_connected_components(pairs: list[tuple[int, int]]) -> None:
    rows, columns = [i for i, _ in pairs], [j for _, j in pairs]
    graph = sp.coo_matrix((np.ones(len(pairs)), (rows, columns)), shape=(12, 12))
    _, labels = connected_components(graph, directed=False)
    touched = sorted({atom for pair in pairs for atom in pair})
    wanted = {tuple(a for a in touched if labels[a] == label) for label in labels[touched]}
    assert set(merge_groups(pairs)) == wanted


@given(pairs=PAIRS, picked=st.sets(st.integers(0, 11), min_size=1, max_size=5))
def test_every_map_has_unit_weight_on_its_own_bead(
    pairs: list[tuple[int, int]], picked: set[int]
) -> None:
    groups = merge_groups(pairs)
    assume(all(len(picked & set(group)) <= 1 for group in groups))
    C = position_map(sorted(picked), 12)
    for name, force_map in FORCE_MAPS.items():
        W = force_map(C, groups)
        assert np.abs(W @ C.T - np.eye(len(C))).max() < 1e-12, name
        if name == "aggregate":  # rigid atoms share one weight for each bead
            for group in groups:
                assert np.ptp(W[:, list(group)], axis=1).max() == 0


def test_two_beads_in_one_rigid_group_have_no_aggregate_map() -> None:
    with pytest.raises(InputError, match=r"beads \[0, 1\] share"):
        aggregate_force_map(position_map([0, 3], 5), [(0, 1), (1, 3)])


def test_mean_forces_of_both_maps_agree_without_constraints() -> None:
    # Two beads tied by a spring, each with an atom on a spring of its own: everything is
    # Gaussian, and the exact mean force of the beads is that of their own spring.
    kT, k_beads, k_atom, n = 2.5, 300.0, 2000.0, 200_000
    random = np.random.default_rng(0)
    x = np.zeros((n, 4, 3))  # bead 0, its atom, bead 1, its atom
    x[:, 2] = random.normal(scale=np.sqrt(kT / k_beads), size=(n, 3))
    x[:, 1] = x[:, 0] + random.normal(scale=np.sqrt(kT / k_atom), size=(n, 3))
    x[:, 3] = x[:, 2] + random.normal(scale=np.sqrt(kT / k_atom), size=(n, 3))
    forces = np.zeros_like(x)
    between = -k_beads * (x[:, 2] - x[:, 0])
    forces[:, 2], forces[:, 0] = between, -between
    for bead, atom in ((0, 1), (2, 3)):
        spring = -k_atom * (x[:, atom] - x[:, bead])
        forces[:, atom] += spring
        forces[:, bead] -= spring
    C = position_map([0, 2], 4)
    distance = (x[:, 2] - x[:, 0]).ravel()
    noise = np.sqrt(k_atom * kT) / np.sqrt(3 * n) / distance.std()
    for W in (slice_force_map(C, ()), aggregate_force_map(C, [(0, 1), (2, 3)])):
        mapped = map_vectors(W, forces.astype(np.float32))[:, 1].ravel()
        slope = (mapped @ distance) / (distance @ distance)
        assert abs(slope + k_beads) < 5 * noise


def test_water_dimer_gives_the_map_that_is_known_to_be_optimal(shared_data: Path) -> None:
    with np.load(shared_data / "aggforce_waterdimer" / "waterdimer.npz") as file:
        forces = file["Fs"].astype(np.float64)
    C = position_map([0, 3], 6)
    W = aggregate_force_map(C, [(0, 1, 2), (3, 4, 5)])
    np.testing.assert_array_equal(W, [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    # The same from the data: minimise the mean square of W f under W Cᵀ = 1.
    free, fixed = [1, 2, 4, 5], [0, 3]
    design = forces[:, free].transpose(0, 2, 1).reshape(-1, 4)
    target = -forces[:, fixed].transpose(0, 2, 1).reshape(-1, 2)
    fitted = np.linalg.lstsq(design, target, rcond=None)[0].T
    np.testing.assert_allclose(W[:, free], fitted, atol=5e-3)
