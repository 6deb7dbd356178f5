"""Fixtures of the tests of potentials."""

from collections.abc import Callable

import pytest
import torch
from potential_molecules import TEMPERATURE_K, grow_chains, make_frames

from trajgen.potential.potential import Potential, PotentialSettings
from trajgen.potential.prior_fit import fit_priors
from trajgen.potential.priors import PriorSettings
from trajgen.potential.schnet import NetworkSettings


@pytest.fixture(autouse=True)
def _fits_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJGEN_THREADS", "1")


@pytest.fixture
def make_potential() -> Callable[..., Potential]:
    """Return a maker of small potentials with fitted priors and a random network, in float64."""

    def make(
        sequence: str = "GYDPET",
        blocks: int = 2,
        features: int = 16,
        handed: bool = True,
        committee: int = 1,
    ) -> Potential:
        frames = make_frames(sequence, 200, seed=3)
        settings = PotentialSettings(
            temperature_K=TEMPERATURE_K,
            priors=PriorSettings(),
            network=NetworkSettings(
                blocks=blocks, features=features, radial_functions=8, handed=handed
            ),
            committee=committee,
            topology=frames.topology.to_dict(),
        )
        potential = Potential(settings, seed=7)
        potential.priors = fit_priors(frames, TEMPERATURE_K, settings.priors).priors
        return potential.double()

    return make


@pytest.fixture
def chains() -> torch.Tensor:
    """Return five chains of six beads in float64, nm."""
    return torch.from_numpy(grow_chains(5, 6, seed=11))
