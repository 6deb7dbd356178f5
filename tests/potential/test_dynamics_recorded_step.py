"""Steps that wait for nothing, and the same steps recorded."""

from functools import partial

import numpy as np
import pytest
import torch
from potential_molecules import grow_chains

from trajgen.errors import InputError
from trajgen.potential.dynamics import simulation as loop
from trajgen.potential.dynamics.integrators import make_integrator
from trajgen.potential.dynamics.outcome import report_of
from trajgen.potential.dynamics.recorded_step import RecordedStep
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.dynamics.simulation import Simulation
from trajgen.potential.dynamics.starts import bond_index
from trajgen.potential.dynamics.step import Step
from trajgen.progress import ProgressTask

CHAINS, BEADS = 3, 6


def starts() -> np.ndarray:
    return grow_chains(CHAINS, BEADS, seed=8).astype(np.float32)


def settings_of(integrator: str, recorded: bool) -> SimulationSettings:
    return SimulationSettings(
        steps=140, save_every=20, integrator=integrator, recorded=recorded,
        tempering={"temperatures_K": (400.0,), "exchange_every": 10},
    )  # fmt: skip


def played_again(function):
    """Record like a GPU: some calls before, and one call for each replay."""
    for _ in range(3):
        function()
    return function


@pytest.mark.parametrize("integrator", ["langevin", "overdamped"])
def test_a_step_never_asks_what_a_tensor_holds(make_potential, integrator):
    # Tensors without data refuse whatever would wait for a device, and tensors of another device.
    potential = make_potential(blocks=1, features=8).float().to("meta")
    kT = torch.ones(CHAINS, 1, 1, device="meta")
    step = Step(
        potential.energy_and_forces,
        bond_index(potential),
        make_integrator(settings_of(integrator, False), kT),
    )
    positions_nm = torch.tensor(starts()).to("meta")
    state = step.begin(positions_nm, torch.zeros_like(positions_nm))
    after = step(state, torch.zeros_like(positions_nm))
    for name, tensor in state.tensors().items():
        assert after.tensors()[name].shape == tensor.shape
        assert after.tensors()[name].dtype == tensor.dtype
        assert after.tensors()[name].is_meta


@pytest.mark.parametrize("integrator", ["langevin", "overdamped"])
def test_recorded_steps_follow_the_same_path_through_frames_exchanges_and_checkpoints(
    make_potential, monkeypatch, integrator
):
    potential = make_potential(blocks=1, features=8).float()

    def run(recorded: bool) -> Simulation:
        simulation = Simulation(potential, starts(), settings_of(integrator, recorded), seed=2)
        for _ in simulation.run(ProgressTask()):
            if simulation.step == 64:  # in another process, from what was stored
                stored = {name: value.clone() for name, value in simulation.tensors().items()}
                again = Simulation(potential, starts(), settings_of(integrator, recorded), seed=2)
                again.restore(64, stored)
                for _ in again.run(ProgressTask()):
                    pass
                return again
        raise AssertionError("step 64 was never stored")

    plain = run(recorded=False)
    monkeypatch.setattr(loop, "require_recordable", lambda device: None)
    monkeypatch.setattr(loop, "RecordedStep", partial(RecordedStep, recorder=played_again))
    recorded = run(recorded=True)
    for name, tensor in plain.tensors().items():
        assert torch.equal(tensor, recorded.tensors()[name]), name
    assert report_of(recorded) == report_of(plain)


def test_recording_on_a_cpu_is_refused(make_potential):
    with pytest.raises(InputError, match="recorded is true and the potential is on cpu; steps are"):
        simulate(make_potential(), starts(), settings_of("langevin", True), seed=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="steps are recorded on a GPU")
@pytest.mark.parametrize("integrator", ["langevin", "overdamped"])
def test_a_gpu_replays_what_it_recorded(make_potential, integrator):
    potential = make_potential(blocks=1, features=8).cuda()  # float64
    plain, recorded = (
        simulate(potential, starts(), settings_of(integrator, flag), seed=1)
        for flag in (False, True)
    )
    assert plain.alive.all()
    np.testing.assert_allclose(recorded.positions_nm, plain.positions_nm, atol=1e-5)
