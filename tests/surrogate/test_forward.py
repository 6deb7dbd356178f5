import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_chain import LAG_PS, TOPOLOGY, wobbling_chain

from trajgen.errors import InputError
from trajgen.geometry.superposition import rmsd
from trajgen.surrogate.checkpoints import save_surrogate
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.forward import forward
from trajgen.surrogate.surrogate import Surrogate
from trajgen.surrogate.tokens import TRANSLATION, TokenScale
from trajgen.surrogate.transformer import DIMENSIONS, Prepared, TrajectoryTransformer

STARTS = wobbling_chain(5, 7)
SETTINGS = RolloutSettings(evaluations=4)


def roll(surrogate: Surrogate, starts: np.ndarray, frames: int = 17, **more: int) -> np.ndarray:
    settings = SETTINGS.model_copy(update=more)
    return forward(surrogate, starts, frames, LAG_PS, settings, 3).positions_nm


def test_a_rollout_begins_with_the_start_and_has_the_frames_asked_for(surrogate: Surrogate):
    rollouts = forward(surrogate, STARTS, 17, LAG_PS, SETTINGS, 3)
    assert rollouts.positions_nm.shape == (5, 17, TOPOLOGY.n_beads, 3)
    assert np.array_equal(rollouts.positions_nm[:, 0], STARTS)
    assert rollouts.alive.all()
    assert rollouts.time_step_ps == LAG_PS


def test_a_shorter_rollout_is_the_beginning_of_a_longer_one(surrogate: Surrogate):
    assert np.array_equal(roll(surrogate, STARTS, 8), roll(surrogate, STARTS, 17)[:, :8])


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_frames(surrogate: Surrogate):
    first = roll(surrogate, STARTS)
    assert np.array_equal(first, roll(surrogate, STARTS))
    other = forward(surrogate, STARTS, 17, LAG_PS, SETTINGS, 4).positions_nm
    assert np.abs(first - other)[:, 1:].max() > 1e-2


def test_a_replica_does_not_depend_on_the_others_in_its_batch(surrogate: Surrogate):
    together = roll(surrogate, STARTS)
    in_pairs = roll(surrogate, STARTS, batch=2)
    fewer = roll(surrogate, STARTS[:2])
    # Equal up to the rounding of matrix products of another size.
    assert np.abs(together - in_pairs).max() < 1e-4
    assert np.abs(together[:2] - fewer).max() < 1e-4


def test_the_work_of_a_rollout_grows_with_its_frames_alone(
    surrogate: Surrogate, monkeypatch: pytest.MonkeyPatch
):
    """A window of 6 frames adds 4; its key frame is encoded once, not once an evaluation."""
    calls = {"windows": 0, "evaluations": 0}
    network = surrogate.network
    encode, velocity = network.encoder.forward, network.velocity

    def encoded(*arguments: torch.Tensor) -> torch.Tensor:
        calls["windows"] += len(arguments[0])
        return encode(*arguments)

    def evaluated(*arguments: Any) -> torch.Tensor:
        calls["evaluations"] += len(arguments[0])
        return velocity(*arguments)

    monkeypatch.setattr(network.encoder, "forward", encoded)
    monkeypatch.setattr(network, "velocity", evaluated)
    for windows in (5, 50):
        calls.update(windows=0, evaluations=0)
        roll(surrogate, STARTS, 6 + 4 * (windows - 1))
        assert calls == {"windows": 5 * windows, "evaluations": 5 * windows * SETTINGS.evaluations}


def test_replicas_from_one_start_differ(surrogate: Surrogate):
    positions = roll(surrogate, np.stack([STARTS[0], STARTS[0]]))
    assert np.abs(positions[0] - positions[1])[1:].max() > 1e-2


class Narrowing(TrajectoryTransformer):
    """Stands where the network is: the velocity field whose flow is x_1 = spread x_0."""

    def __init__(self, spread: float) -> None:
        super().__init__(DIMENSIONS["tiny"], 0)
        self.spread = spread

    def velocity(self, x: torch.Tensor, t: torch.Tensor, prepared: Prepared) -> torch.Tensor:
        # Linear path from N(0, 1) to N(0, spread²): sigma(t)² = (1 - t)² + (t spread)².
        variance = (1 - t) ** 2 + (t * self.spread) ** 2
        rate = (t * self.spread**2 - (1 - t)) / variance
        return rate.view(-1, 1, 1, 1) * x


def narrowing(surrogate: Surrogate) -> Surrogate:
    """Return a model whose frames all lie equally far about their key frame, at any lag.

    Its beads are no chain: nothing keeps their bonds.
    """
    scale = surrogate.molecule.scale
    mean, std = (values[-2:-1].repeat(2, 1) for values in (scale.mean, scale.std))
    mean[:, TRANSLATION], std[:, TRANSLATION] = 0.0, 0.05
    flat = TokenScale(scale.times_ps[:1], mean, std)
    lags_ps = (0.01, 100.0)
    molecule = replace(
        surrogate.molecule, scale=flat, relaxations=None, chain=None, lags_ps=lags_ps
    )
    return Surrogate(Narrowing(0.1), surrogate.settings, molecule)


def test_joins_are_no_larger_than_steps_within_windows(surrogate: Surrogate):
    """With frames drawn independently around the key frame, every step but the first is alike.

    The step out of a key frame is shorter by the square root of two than one between two draws;
    the step over a join, from the last frame of a window to the first of the next, is such a step.
    """
    model = narrowing(surrogate)
    starts = wobbling_chain(200, 8, spread_nm=0.005)
    settings = RolloutSettings(evaluations=20, batch=200, context=1)
    positions = forward(model, starts, 16, LAG_PS, settings, 0).positions_nm
    steps = rmsd(torch.from_numpy(positions[:, 1:]), torch.from_numpy(positions[:, :-1]))
    mean = steps.mean(dim=0)
    out_of_key, within = mean[[0, 5, 10]], mean[[1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14]]
    assert torch.allclose(out_of_key, out_of_key.mean(), rtol=0.1)
    assert torch.allclose(within, within.mean(), rtol=0.1)
    assert abs(float(within.mean() / out_of_key.mean()) - 2**0.5) < 0.15


def test_a_replica_that_falls_apart_is_frozen_and_counted(surrogate: Surrogate):
    broken = STARTS.copy()
    broken[1, 2:] += 5.0
    rollouts = forward(surrogate, broken, 17, LAG_PS, SETTINGS, 3)
    assert rollouts.alive[1].tolist() == [True] + [False] * 16
    assert np.isnan(rollouts.positions_nm[1, 1:]).all()
    assert rollouts.n_lost == 16
    others = [0, 2, 3, 4]
    assert rollouts.alive[others].all()
    alone = forward(surrogate, STARTS, 17, LAG_PS, SETTINGS, 3)
    assert np.abs(rollouts.positions_nm[others] - alone.positions_nm[others]).max() < 1e-4


def test_a_network_that_gives_nan_loses_all_replicas_and_raises_nothing(surrogate: Surrogate):
    model = Surrogate(Narrowing(float("nan")), surrogate.settings, surrogate.molecule)
    rollouts = forward(model, STARTS, 17, LAG_PS, SETTINGS, 3)
    assert not rollouts.alive[:, 1:].any()
    assert np.isnan(rollouts.positions_nm[:, 1:]).all()


@pytest.mark.parametrize("context", [1, 2, 3])
def test_windows_go_on_from_the_frames_they_share(surrogate: Surrogate, context: int):
    positions = roll(surrogate, STARTS, 17, context=context)
    # A window begins with frames of the one before, which stay as they were.
    assert np.array_equal(positions[:, :6], roll(surrogate, STARTS, 6, context=context))
    assert np.isfinite(positions).all()


def test_a_start_of_several_frames_tells_how_the_molecule_moves(surrogate: Surrogate):
    history = np.stack([wobbling_chain(4, seed) for seed in range(2)])
    rolled = roll(surrogate, history, 17)
    assert np.array_equal(rolled[:, :4], history)
    assert np.array_equal(rolled[:, :9], roll(surrogate, history, 9))
    # The two frames that a window shares with those before it are all that the next one sees.
    assert np.array_equal(rolled[:, 4:], roll(surrogate, history[:, 2:], 15)[:, 2:])
    other = history[:, [0, 1, 3, 3]]  # it stood still
    assert np.abs(roll(surrogate, other, 6) - rolled[:, :6])[:, 4:].max() > 1e-3
    alone = roll(surrogate, history[:, 3], 3)
    assert np.abs(alone[:, 1:] - rolled[:, 4:6]).max() > 1e-3


def test_bad_requests_are_refused_with_what_is_wanted(surrogate: Surrogate):
    with pytest.raises(InputError, match=r"lag_ps is 5, but .* trained at lags of 2 to 2 ps"):
        forward(surrogate, STARTS, 10, 5.0, SETTINGS, 0)
    with pytest.raises(InputError, match="frames is 1; wanted are at least 2"):
        forward(surrogate, STARTS, 1, LAG_PS, SETTINGS, 0)
    with pytest.raises(InputError, match="frames is 2; wanted are at least 3"):
        forward(surrogate, np.stack([STARTS, STARTS], axis=1), 2, LAG_PS, SETTINGS, 0)
    with pytest.raises(InputError, match=r"wanted is \(n, 5, 3\)"):
        forward(surrogate, STARTS[:, :4], 10, LAG_PS, SETTINGS, 0)
    holed = STARTS.copy()
    holed[2, 1, 0] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        forward(surrogate, holed, 10, LAG_PS, SETTINGS, 0)


def test_a_temperature_is_asked_for_where_there_are_several(surrogate: Surrogate):
    warm = replace(surrogate.molecule, temperatures_K=(300.0, 400.0))
    several = Surrogate(surrogate.network, surrogate.settings, warm)
    with pytest.raises(InputError, match="trained at 300, 400 K; choose one"):
        roll(several, STARTS)
    with pytest.raises(InputError, match="temperature_K is 500"):
        roll(several, STARTS, temperature_K=500.0)
    first, second = (roll(several, STARTS, temperature_K=t) for t in (300.0, 400.0))
    assert np.abs(first - second).max() > 1e-4
    assert np.array_equal(first, roll(surrogate, STARTS))


def test_products_in_bfloat16_change_a_rollout_by_rounding_alone(surrogate: Surrogate):
    in_bf16 = SETTINGS.model_copy(update={"precision": "bf16"})
    exact, rounded = (
        forward(surrogate, STARTS, 6, LAG_PS, settings, 3).positions_nm
        for settings in (SETTINGS, in_bf16)
    )
    moved = np.abs(exact[:, 1:] - exact[:, :1]).mean()
    assert 0 < np.abs(rounded - exact).mean() < 0.1 * moved


def test_compiling_without_a_compiler_is_refused(
    surrogate: Surrogate, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="there is no no-such-compiler; install"):
        roll(surrogate, STARTS, compile=True)


#: Compiled where types are not checked at run time, as users run it.
COMPILED = """
import sys
from pathlib import Path
import numpy as np
import torch
from trajgen.surrogate.checkpoints import load_surrogate
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.forward import forward
torch.set_num_threads(1)
model, starts = load_surrogate(Path(sys.argv[1]), torch.device("cpu")), np.load(sys.argv[2])
made = [
    forward(model, starts, 9, 2.0, RolloutSettings(evaluations=4, compile=compile), 3).positions_nm
    for compile in (False, True)
]
moved = np.abs(made[0][:, 1:] - made[0][:, :1]).mean()
print(moved, np.abs(made[1] - made[0]).max())
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
def test_a_compiled_network_gives_the_same_rollout(surrogate: Surrogate, tmp_path: Path):
    save_surrogate(
        tmp_path / "model", surrogate.network, surrogate.settings, [surrogate.molecule], {}
    )
    np.save(tmp_path / "starts.npy", STARTS)
    script = tmp_path / "compiled.py"
    script.write_text(COMPILED)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "model", tmp_path / "starts.npy"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    moved, apart = map(float, done.stdout.split())
    assert apart < 1e-3 * moved
