from pathlib import Path

import pytest
import torch
from toy_chain import LAG_PS, TOPOLOGY, wobbling_chain

from trajgen.checkpoint import load_checkpoint, save_checkpoint
from trajgen.errors import InputError
from trajgen.geometry.rotations import random_rotations
from trajgen.geometry.superposition import rmsd
from trajgen.surrogate.checkpoints import load_surrogate, save_surrogate
from trajgen.surrogate.conditioning import forward_mask, interpolate_mask
from trajgen.surrogate.encoded_windows import WindowTimes
from trajgen.surrogate.sampler import SamplerSettings
from trajgen.surrogate.surrogate import Surrogate
from trajgen.surrogate.tokens import channel_count

BEADS = TOPOLOGY.n_beads
SETTINGS = SamplerSettings(evaluations=8, restart=0.2)
TIMES = WindowTimes.even(3, 6, LAG_PS, 300.0, torch.device("cpu"))


def windows_and_noise() -> tuple[torch.Tensor, torch.Tensor]:
    positions = torch.from_numpy(wobbling_chain(18, 5)).view(3, 6, BEADS, 3)
    noise = torch.randn(3, 6, BEADS, channel_count(0), generator=torch.Generator().manual_seed(0))
    return positions, noise


def some_residues(frames: int) -> torch.Tensor:
    known = torch.zeros(frames, BEADS, dtype=torch.bool)
    known[:, :3] = True
    return known


@pytest.mark.parametrize("task", ["forward", "interpolate", "residues"])
def test_known_cells_come_back(surrogate: Surrogate, task: str):
    positions, noise = windows_and_noise()
    if task == "residues":
        known = some_residues(6)
    else:
        known = (forward_mask if task == "forward" else interpolate_mask)(6, BEADS)
    known = known.expand(3, 6, BEADS)
    completed = surrogate.complete(positions, known, TIMES, lambda: noise, SETTINGS)
    assert torch.equal(completed[:, 0][known[:, 0]], positions[:, 0][known[:, 0]])
    for frame in range(1, 6):
        given = known[0, frame]
        if given.any():
            assert rmsd(completed[:, frame, given], positions[:, frame, given]).max() < 1e-5
    unknown = ~known
    assert (completed - positions)[unknown].abs().max() > 1e-3


@pytest.mark.parametrize("task", ["interpolate", "residues", "residues and a start"])
def test_what_stands_in_unknown_cells_is_not_looked_at(surrogate: Surrogate, task: str):
    positions, noise = windows_and_noise()
    known = interpolate_mask(6, BEADS) if task == "interpolate" else some_residues(6)
    known[0] |= "start" in task
    known = known.expand(3, 6, BEADS)
    emptied = torch.where(known[..., None], positions, 0.0)
    first = surrogate.complete(positions, known, TIMES, lambda: noise, SETTINGS)
    second = surrogate.complete(emptied, known, TIMES, lambda: noise, SETTINGS)
    assert torch.equal(first, second)


def test_the_answer_turns_with_the_key_frame(surrogate: Surrogate):
    positions, noise = windows_and_noise()
    known = interpolate_mask(6, BEADS).expand(3, 6, BEADS)
    turn = random_rotations(18, torch.Generator().manual_seed(1)).view(3, 6, 3, 3)
    moved = positions @ turn.mT + 2.0
    first = surrogate.complete(positions, known, TIMES, lambda: noise, SETTINGS)
    second = surrogate.complete(moved, known, TIMES, lambda: noise, SETTINGS)
    wanted = first @ turn[:, :1].mT + 2.0
    assert (second - wanted).abs().max() < 1e-4


def save(surrogate: Surrogate, path: Path) -> None:
    save_surrogate(path, surrogate.network, surrogate.settings, [surrogate.molecule], {})


def test_a_surrogate_comes_back_from_disk(surrogate: Surrogate, tmp_path: Path):
    save(surrogate, tmp_path / "model")
    again = load_surrogate(tmp_path / "model", torch.device("cpu"))
    positions, noise = windows_and_noise()
    known = forward_mask(6, BEADS).expand(3, 6, BEADS)
    first = surrogate.complete(positions, known, TIMES, lambda: noise, SETTINGS)
    second = again.complete(positions, known, TIMES, lambda: noise, SETTINGS)
    assert torch.equal(first, second)
    assert (again.topology, again.lags_ps, again.temperatures_K) == (
        TOPOLOGY,
        (LAG_PS, LAG_PS),
        (300.0,),
    )
    assert again.settings == surrogate.settings


def test_a_checkpoint_cut_in_half_is_refused(surrogate: Surrogate, tmp_path: Path):
    save(surrogate, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        load_surrogate(tmp_path / "model", torch.device("cpu"))


def test_weights_of_another_network_are_refused(surrogate: Surrogate, tmp_path: Path):
    save(surrogate, tmp_path / "model")
    checkpoint = load_checkpoint(tmp_path / "model", "surrogate")
    fewer = dict(sorted(checkpoint.weights.items())[:-1])
    save_checkpoint(tmp_path / "cut", "surrogate", fewer, checkpoint.settings, {})
    with pytest.raises(InputError, match="its weights do not fit its settings"):
        load_surrogate(tmp_path / "cut", torch.device("cpu"))
