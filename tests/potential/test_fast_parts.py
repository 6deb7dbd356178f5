"""Parts of the fast path: tanh, products, tables, and dynamics without friction."""

import math
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch
from potential_molecules import grow_chains

from trajgen.potential.dynamics.integrators import Baoab
from trajgen.potential.fast.activation import add_bias_and_tanh, multiply_by_slope
from trajgen.potential.fast.fast_potential import FastPotential
from trajgen.potential.fast.filter_tables import tabulate_filters
from trajgen.potential.fast.matrix_product import OneBlasThread, multiply, sgemm_address
from trajgen.potential.schnet import cosine_cutoff


def test_tanh_is_right_to_a_few_1e_7_and_its_slope_too():
    x = np.concatenate([np.linspace(-12, 12, 20_001), [0.0, 1e-8, -1e-8, 1e30, -np.inf, np.inf]])
    rows = np.stack([np.zeros_like(x), x]).astype(np.float32).T.copy()
    wide = np.repeat(rows, 2, axis=1)
    add_bias_and_tanh(wide, 1, np.array([0.25, 0.0, -0.5], np.float32))
    exact = np.tanh(rows.astype(float))
    np.testing.assert_array_equal(wide[:, 0], 0)  # a column that was not named
    np.testing.assert_allclose(wide[:, 1], math.tanh(0.25), atol=3e-7)
    np.testing.assert_allclose(wide[:, 2], exact[:, 1], atol=3e-7)
    shifted = np.tanh(rows[:, 1].astype(float) - 0.5)
    np.testing.assert_allclose(wide[:, 3], shifted, atol=3e-7)
    gradient = np.full_like(wide, 2)
    multiply_by_slope(wide, 2, 1, gradient)
    np.testing.assert_allclose(gradient[:, 2], 2 * (1 - exact[:, 1] ** 2), atol=3e-6)
    np.testing.assert_array_equal(gradient[:, [0, 1, 3]], 2)


@numba.njit
def _product(sgemm, left, right, transposed, keep, product, columns):
    multiply(sgemm, left[:, :columns], right, transposed, keep, product[:, 1:])


@pytest.mark.parametrize("keep", [0.0, 1.0])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_parts_of_matrices_are_those_of_numpy(transposed, keep):
    generator = np.random.default_rng(1)
    left, right = generator.normal(size=(7, 9)), generator.normal(size=(5, 4))
    product = generator.normal(size=(7, 5)).astype(np.float32)
    left, right = left.astype(np.float32), right.astype(np.float32)
    given = right.T.copy() if transposed else right
    wanted = product.copy()
    wanted[:, 1:] = keep * product[:, 1:] + left[:, :5] @ right
    with OneBlasThread():
        _product(sgemm_address(), left, given, transposed, np.float32(keep), product, 5)
    np.testing.assert_allclose(product, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lower", [0.0, 0.3])
def test_tables_hold_filters_and_their_slopes(make_potential, lower):
    (network,) = make_potential().member_networks()
    network.lower_nm = network.basis.lower_nm = lower
    table = tabulate_filters(network).double()
    knots = torch.linspace(
        lower, network.upper_nm, table.shape[1], dtype=torch.float64, requires_grad=True
    )
    for block, values in zip(network.blocks, table, strict=True):
        window = cosine_cutoff(knots, lower, network.upper_nm)[:, None]
        filters = block.filter_out(torch.tanh(block.filter_in(network.basis(knots)))) * window
        torch.testing.assert_close(values[:, 0], filters.detach(), rtol=1e-5, atol=1e-6)
        for channel in (0, 9):
            (slope,) = torch.autograd.grad(filters[:, channel].sum(), knots, retain_graph=True)
            spacing = (network.upper_nm - lower) / (table.shape[1] - 1)
            torch.testing.assert_close(values[:, 1, channel], slope * spacing, rtol=1e-5, atol=1e-6)


def drift(field, x: torch.Tensor) -> float:
    """Return the largest change of the total energy along a run without friction, kJ/mol."""
    integrator = Baoab(time_step_ps=0.001, friction_per_ps=0.0, kT=2.9, mass_amu=12.0)
    v = integrator.begin(torch.randn(x.shape, generator=torch.Generator().manual_seed(2)))
    energy, f = field.energy_and_forces(x)
    totals = []
    for _ in range(1000):
        totals.append(energy.double() + integrator.kinetic_energy(v).double())
        x, v = integrator.move(x, v, f, torch.zeros_like(x))
        energy, f = field.energy_and_forces(x)
        v = integrator.kick(v, f)
    along = torch.stack(totals)
    return (along - along[0]).abs().max().item()


def test_energy_is_conserved_as_well_as_on_the_plain_path(make_potential):
    potential = make_potential(handed=True).float()
    x = torch.from_numpy(grow_chains(4, 6, seed=3)).float()
    ours, plain = drift(FastPotential.build(potential), x), drift(potential, x)
    assert ours < 1.1 * plain + 1e-3
    assert ours < 0.5  # of a kinetic energy of some 26 kJ/mol


FORCES = """
import sys
import numpy as np, torch
from pathlib import Path
from trajgen.potential.fast.fast_potential import FastPotential
from trajgen.potential.potential import Potential
torch.set_num_threads(1)
fast = FastPotential.build(Potential.load(Path(sys.argv[1]), torch.device("cpu")))
chains = torch.from_numpy(np.load(sys.argv[2]))
sys.stdout.buffer.write(fast.energy_and_forces(chains)[1].numpy().tobytes())
"""


@pytest.mark.slow
def test_compiled_anew_and_read_from_the_cache_it_gives_the_same_bits(make_potential, tmp_path):
    make_potential("GYDPET").save(tmp_path / "potential", {})
    np.save(tmp_path / "chains.npy", grow_chains(16, 6, seed=3).astype(np.float32))
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    call = [sys.executable, "-c", FORCES, tmp_path / "potential", tmp_path / "chains.npy"]
    forces = [
        subprocess.run(call, env=environment, check=True, capture_output=True).stdout
        for _ in range(2)
    ]
    assert list((tmp_path / "cache").rglob("*.nbc"))
    assert len(forces[0]) == 16 * 6 * 3 * 4
    assert forces[0] == forces[1]
