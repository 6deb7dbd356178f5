"""Heavy atoms of several molecules: one surrogate simulates and designs one that it never saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_chain import tiny_settings
from toy_peptide import LAG_PS, make_peptide_dataset, wobbling_peptide

from trajgen.data.writers import write_structure
from trajgen.surrogate.checkpoints import load_surrogate
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.conditioning import TASKS, TaskSettings
from trajgen.surrogate.design import design
from trajgen.surrogate.forward import forward
from trajgen.surrogate.surrogate import Surrogate
from trajgen.surrogate.train import train_surrogate

CPU = torch.device("cpu")
SETTINGS = RolloutSettings(evaluations=4)
UNSEEN = "YGPDG"  # another length and order; every residue is one of the training
ENDS = np.array([True, False, False, False, True])


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Surrogate:
    folder = tmp_path_factory.mktemp("transfer")
    datasets = [
        make_peptide_dataset(folder / sequence, 2, 40, sequence) for sequence in ("GYDP", "DPGGY")
    ]
    tasks = TaskSettings(**{**dict.fromkeys(TASKS, 0.0), "forward": 1.0, "design": 1.0})
    settings = tiny_settings(20, learning_rate=4e-3, validate_every=20)
    model = settings.model.model_copy(update={"resolution": "heavy"})
    settings = settings.model_copy(update={"tasks": tasks, "model": model})
    made = train_surrogate(datasets, folder / "model", settings, 1, CPU)
    atoms, frames = wobbling_peptide(1, 0, sequence=UNSEEN)
    write_structure(folder / "unseen.pdb", atoms, frames[0])
    return load_surrogate(made, CPU, folder / "unseen.pdb")


def test_a_molecule_that_was_never_seen_is_simulated_with_its_own_geometry(unseen: Surrogate):
    atoms, frames = wobbling_peptide(3, 1, sequence=UNSEEN)
    assert unseen.topology.names == atoms.names
    rolled = forward(unseen, frames, 20, LAG_PS, SETTINGS, 1)
    assert rolled.alive.all()
    bonds = np.array(atoms.bonds)

    def lengths(positions_nm: np.ndarray) -> np.ndarray:
        return np.linalg.norm(
            positions_nm[..., bonds[:, 0], :] - positions_nm[..., bonds[:, 1], :], axis=-1
        )

    found = lengths(rolled.positions_nm)
    own = np.broadcast_to(lengths(frames[0]), found.shape)
    np.testing.assert_allclose(found, own, atol=2e-4)
    assert np.ptp(rolled.positions_nm - rolled.positions_nm[:, :1], axis=1).max() > 0.01


def test_designs_know_nothing_but_how_the_known_residues_move(unseen: Surrogate):
    """Neither what stands at the hidden residues, nor how the molecule mostly looks, is seen."""
    _, frames = wobbling_peptide(12, 2, sequence=UNSEEN)

    def chances(surrogate: Surrogate, positions_nm: np.ndarray) -> np.ndarray:
        return design(surrogate, positions_nm, ENDS, 4, LAG_PS, SETTINGS, 1).chances

    found = chances(unseen, frames)
    assert found.shape == (4, 3, 20)
    hidden = ~ENDS[unseen.molecule.resolution.site_residues.numpy()]
    away = frames.copy()
    away[:, hidden] += 0.3
    np.testing.assert_array_equal(chances(unseen, away), found)
    _, others = wobbling_peptide(1, 7, spread=1.0, sequence=UNSEEN)
    template = torch.from_numpy(others[0] - others[0].mean(axis=0))
    other = Surrogate(
        unseen.network, unseen.settings, replace(unseen.molecule, template_nm=template)
    )
    np.testing.assert_allclose(chances(other, frames), found, atol=1e-4)
    moved = frames.copy()
    moved[1:, ~hidden] = frames[:-1, ~hidden] + 0.01 * np.sin(np.arange(11))[:, None, None]
    assert np.abs(chances(unseen, moved) - found).max() > 1e-4
