"""Seeds depend on all that they are derived from, and on nothing else."""

import subprocess
import sys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from trajgen.seeding import derive_seed, numpy_generator, seed_31, torch_generator

ARGUMENTS = st.tuples(
    st.integers(0, 2**40), st.sampled_from(["starts", "split"]), st.integers(0, 50),
    st.integers(0, 50),
)  # fmt: skip


@given(ARGUMENTS, ARGUMENTS)
def test_different_arguments_give_different_seeds(
    a: tuple[int, str, int, int], b: tuple[int, str, int, int]
) -> None:
    assert (derive_seed(*a) == derive_seed(*b)) == (a == b)
    assert 0 <= derive_seed(*a) < 2**63
    assert 1 <= seed_31(derive_seed(*a)) < 2**31


def test_seeds_do_not_depend_on_the_process() -> None:
    code = "from trajgen.seeding import derive_seed; print(derive_seed(1, 'noise', 2, 3))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == derive_seed(1, "noise", 2, 3)


def test_draws_leave_the_global_state_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = numpy_generator(5).normal(size=4), torch.randn(4, generator=torch_generator(5))
    again = numpy_generator(5).normal(size=4), torch.randn(4, generator=torch_generator(5))
    np.testing.assert_array_equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_neighbouring_seeds_are_independent() -> None:
    draws = np.array(
        [numpy_generator(derive_seed(0, "noise", 0, i)).normal(size=200) for i in range(200)]
    )
    correlations = np.corrcoef(draws)[np.triu_indices(200, 1)]
    assert abs(correlations.mean()) < 5 / np.sqrt(200 * len(correlations))
    assert abs(correlations).max() < 0.5
