"""Heavy atoms: tokens that come back, and a surrogate of them that does all tasks."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import torch
from command import succeed, trajgen
from openmm import app, unit
from test_heavy_atoms import ALL, FREE, STRUCTURES, heavy, made
from toy_chain import tiny_settings
from toy_peptide import (
    LAG_PS,
    SEQUENCE,
    make_peptide_dataset,
    peptide,
    two_chains,
    wobbling_peptide,
)

from al.molecule.peptide import build_peptide, extended_backbone
from trajgen.data.records import Rollouts
from trajgen.data.store import Dataset
from trajgen.data.writers import write_structure
from trajgen.errors import InputError
from trajgen.geometry.rotations import random_rotations
from trajgen.geometry.superposition import rmsd
from trajgen.surrogate.checkpoints import load_surrogate
from trajgen.surrogate.completing import RESTART, RolloutSettings
from trajgen.surrogate.conditioning import forward_mask
from trajgen.surrogate.encoded_windows import WindowTimes, encode_windows
from trajgen.surrogate.ensemble import ensemble
from trajgen.surrogate.filling import interpolate, upsample
from trajgen.surrogate.forward import forward
from trajgen.surrogate.inpaint import inpaint
from trajgen.surrogate.ranking import ranked
from trajgen.surrogate.resolutions import AllHeavyAtoms, chain_runs
from trajgen.surrogate.sampler import SamplerSettings
from trajgen.surrogate.surrogate import Surrogate
from trajgen.surrogate.tokens import (
    FRAME_CHANNELS,
    channels_in_use,
    decode,
    encode,
    known_channels,
    reference_frames,
    superpose_on_reference,
)
from trajgen.surrogate.train import train_surrogate

CPU = torch.device("cpu")
SETTINGS = RolloutSettings(evaluations=4)


def round_trip(model: AllHeavyAtoms, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tokens of a window whose first frame is known, and what they decode to."""
    windows = positions[None]
    known = forward_mask(len(positions), model.beads.n_beads)[None]
    reference = reference_frames(windows, known, positions[0], model)
    tokens = encode(superpose_on_reference(windows, known, reference, model), reference, model)
    held = torch.zeros_like(known)
    return tokens, decode(tokens, reference, model, held)[0]


def frames_of(model_frames: int = 6, seed: int = 0) -> tuple[AllHeavyAtoms, torch.Tensor]:
    atoms, positions = wobbling_peptide(model_frames, seed)
    sites = torch.from_numpy(positions)
    return AllHeavyAtoms.measure(atoms, sites), sites


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", STRUCTURES)
def test_atoms_of_structures_come_back_from_tokens(shared_data, name, dtype):
    loaded = mdtraj.load(str(shared_data / "fastfolder_pdb" / f"{name}.pdb"))[:1]
    atoms, positions = heavy(loaded.topology, loaded.xyz)
    positions = positions.to(dtype)
    model = AllHeavyAtoms.measure(atoms, positions)
    _, decoded = round_trip(model, positions.repeat(2, 1, 1))
    assert (decoded - positions).norm(dim=-1).max() < 1e-4  # 1e-3 Å


def test_the_structures_have_every_residue_but_cysteine(shared_data):
    """It comes back from a made peptide alone, as all others do too."""
    files = [shared_data / "fastfolder_pdb" / f"{name}.pdb" for name in STRUCTURES]
    found = {residue.code for file in files for residue in mdtraj.load(str(file)).top.residues}
    assert set(ALL) - found == {"C"}


def test_atoms_of_every_residue_come_back_from_tokens():
    atoms, positions = made(ALL)
    _, decoded = round_trip(AllHeavyAtoms.measure(atoms, positions), positions.repeat(2, 1, 1))
    assert (decoded - positions).norm(dim=-1).max() < 1e-4


def test_tokens_come_back_and_do_not_change_when_frames_are_turned():
    model, positions = frames_of()
    tokens, decoded = round_trip(model, positions)
    assert rmsd(decoded, positions).max() < 1e-5
    again, _ = round_trip(model, decoded)
    turn = random_rotations(len(positions), torch.Generator().manual_seed(1))
    moved, _ = round_trip(model, positions @ turn.mT + 0.7)
    for other in (again, moved):
        assert (tokens - other).abs().max() < 1e-5
    mirrored, _ = round_trip(
        model, torch.cat([positions[:1], positions[1:] * torch.tensor([1, 1, -1])])
    )
    assert (tokens - mirrored)[..., FRAME_CHANNELS:].abs().max() > 0.1


def test_channels_of_known_residues_hang_on_known_residues_alone():
    model, positions = frames_of()
    known = torch.tensor([True, False, True, True]).expand(1, 6, 4)
    reference = reference_frames(positions[None], known, positions[0], model)
    away = 0.02 * torch.randn(positions.shape, generator=torch.Generator().manual_seed(0))
    unknown = ~known[0][:, model.site_residues, None]
    one, other = (
        encode(superpose_on_reference(sites[None], known, reference, model), reference, model)
        for sites in (positions, positions + away * unknown)
    )
    clear = known_channels(known, model)
    assert torch.equal(clear.any(dim=-1), known)
    torch.testing.assert_close(one[clear], other[clear], atol=1e-5, rtol=0)
    used = known[..., None] & channels_in_use(model)
    assert ((one - other)[used & ~clear].abs() > 1e-4).all()
    omega, phi, psi = FRAME_CHANNELS, FRAME_CHANNELS + 1, FRAME_CHANNELS + 2
    hidden = torch.nonzero((used & ~clear)[0, 0, :, : FRAME_CHANNELS + 7]).tolist()
    assert hidden == [[0, psi], [2, omega], [2, phi]]


def test_torsions_that_a_residue_lacks_are_zero_and_stay_so(surrogate: Surrogate):
    """Normalised by a spread that no residue has, the cosine of no torsion would be a thousand."""
    atoms, positions = wobbling_peptide(6, 1)
    assert atoms == surrogate.topology
    windows = torch.from_numpy(positions)[None]
    known = forward_mask(6, 4)[None]
    times = WindowTimes.even(1, 6, LAG_PS, 300.0, CPU)
    encoded = encode_windows(windows, known, None, times, surrogate.molecule)
    unused = ~channels_in_use(surrogate.molecule.resolution)
    assert unused.any(dim=0).sum() > 4
    assert (encoded.tokens * unused == 0).all()
    assert (encoded.inputs.template_tokens * unused == 0).all()
    assert encoded.tokens[~known].abs().max() < 20
    noise = torch.randn(encoded.tokens.shape, generator=torch.Generator().manual_seed(0))
    settings = SamplerSettings(evaluations=8, restart=0.2)
    made = surrogate.complete(windows, known, times, lambda: noise, settings)
    other = torch.where(unused, noise + 3.0, noise)
    again = surrogate.complete(windows, known, times, lambda: other, settings)
    assert torch.equal(made, again)


def test_whatever_the_tokens_say_the_geometry_is_that_of_the_molecule():
    model, positions = frames_of()
    known = forward_mask(6, 4)[None]
    reference = reference_frames(positions[None], known, positions[0], model)
    tokens = torch.randn(1, 6, 4, 23, generator=torch.Generator().manual_seed(0))
    held = torch.zeros_like(known)
    built = decode(tokens, reference, model, held)[0]
    for one, other in model.topology.bonds:
        ring = {model.topology.names[one], model.topology.names[other]} == {"CD", "N"}
        if not ring:
            length = (positions[0, one] - positions[0, other]).norm()
            lengths = (built[:, one] - built[:, other]).norm(dim=-1)
            torch.testing.assert_close(lengths, length.expand(6), atol=1e-4, rtol=0)


def test_chains_end_where_no_peptide_bond_is(shared_data):
    atoms, positions = made("GYDPE")
    model = AllHeavyAtoms.measure(atoms, positions)
    assert chain_runs(model.geometry.atoms) == [slice(0, 5)]
    n, c = atoms.index(2, "N"), atoms.index(1, "C")
    bonds = tuple(pair for pair in atoms.bonds if set(pair) != {n, c})
    broken = type(atoms)(**{**vars(atoms), "bonds": bonds})
    model = AllHeavyAtoms.measure(broken, positions)
    assert chain_runs(model.geometry.atoms) == [slice(0, 2), slice(2, 5)]
    _, decoded = round_trip(model, positions.repeat(2, 1, 1))
    assert (decoded - positions).norm(dim=-1).max() < 1e-4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_peptide_dataset(tmp_path_factory.mktemp("heavy") / "dataset")


@pytest.fixture(scope="module")
def surrogate_path(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = tiny_settings(15)
    model = settings.model.model_copy(update={"resolution": "heavy"})
    settings = settings.model_copy(update={"model": model})
    out = tmp_path_factory.mktemp("heavy") / "model"
    return train_surrogate([dataset], out, settings, 1, CPU)


@pytest.fixture(scope="module")
def surrogate(surrogate_path: Path) -> Surrogate:
    return load_surrogate(surrogate_path, CPU)


KNOWN = np.array([True, False, False, True])
TASKS: dict[str, Callable[[Surrogate, np.ndarray, RolloutSettings], Rollouts]] = {
    "forward": lambda model, frames, settings: forward(model, frames[:3], 9, LAG_PS, settings, 1),
    "interpolate": lambda model, frames, settings: interpolate(
        model, frames[0], frames[1], 5, 2, LAG_PS, settings, 1
    ),
    "upsample": lambda model, frames, settings: upsample(model, frames, 4, LAG_PS, settings, 1),
    "inpaint": lambda model, frames, settings: inpaint(
        model, frames, KNOWN, 2, LAG_PS, settings, 1
    ),
    "ensemble": lambda model, frames, settings: ensemble(model, 6, settings, 1),
}


def of_any_lag(surrogate: Surrogate) -> Surrogate:
    fine = replace(surrogate.molecule, lags_ps=(0.1, 10.0))
    return Surrogate(surrogate.network, surrogate.settings, fine)


@pytest.mark.parametrize("task", TASKS)
def test_steps_of_rollouts_and_paths_go_back(
    task: str, surrogate: Surrogate, first_restart: Callable[[Callable[[], object]], float]
):
    model, (_, positions) = of_any_lag(surrogate), wobbling_peptide(9, 5)

    def asked(chosen: float | None) -> float:
        settings = SETTINGS.model_copy(update={"restart": chosen})
        return first_restart(lambda: TASKS[task](model, positions, settings))

    assert asked(None) == (RESTART if task in ("forward", "interpolate") else 0.0)
    assert (asked(0.0), asked(0.3)) == (0.0, 0.3)


def test_all_tasks_give_whole_molecules(surrogate: Surrogate):
    atoms, positions = wobbling_peptide(9, 5)
    assert surrogate.topology == atoms
    made = {task: run(of_any_lag(surrogate), positions, SETTINGS) for task, run in TASKS.items()}
    ca, cb = atoms.index(1, "CA"), atoms.index(1, "CB")
    for task, rollouts in made.items():
        assert rollouts.topology == atoms, task
        assert rollouts.alive.all(), task
        lengths = np.linalg.norm(
            rollouts.positions_nm[:, :, ca] - rollouts.positions_nm[:, :, cb], axis=-1
        )
        np.testing.assert_allclose(lengths, 0.153, atol=2e-3, err_msg=task)
    # Hardly trained, it would put many atoms into one place.
    drawn = torch.from_numpy(made["ensemble"].positions_nm).flatten(0, 1)
    assert not surrogate.molecule.resolution.overlaps.present(drawn).any()
    assert np.array_equal(made["forward"].positions_nm[:, 0], positions[:3])
    assert np.array_equal(made["upsample"].positions_nm[0, ::4], positions)
    of_known = np.isin(atoms.atom_residues, [0, 3])
    given = made["inpaint"].positions_nm[0][:, of_known]
    assert np.array_equal(given, positions[:, of_known])


def test_the_commands_take_a_structure_with_hydrogens_in_any_order(
    surrogate_path: Path, tmp_path: Path
):
    atoms, positions = peptide()
    order = np.random.default_rng(0).permutation(atoms.n_atoms)
    place = {int(old): new for new, old in enumerate(order)}
    per_residue = sorted(range(atoms.n_atoms), key=lambda a: (atoms.atom_residues[a], place[a]))
    shuffled = type(atoms)(
        names=(*(atoms.names[a] for a in per_residue),),
        elements=(*(atoms.elements[a] for a in per_residue),),
        atom_residues=(*(atoms.atom_residues[a] for a in per_residue),),
        residues=atoms.residues,
        residue_numbers=atoms.residue_numbers,
        chains=atoms.chains,
        bonds=(),
    )
    write_structure(tmp_path / "start.pdb", shuffled, positions.numpy()[per_residue])
    succeed(
        "generate", "forward", surrogate_path, "--start", tmp_path / "start.pdb", "--frames", 8,
        "--device", "cpu", "--out", tmp_path / "gen.xtc",
    )  # fmt: skip
    read = mdtraj.load(str(tmp_path / "gen.xtc"), top=str(tmp_path / "gen.pdb"))
    assert [atom.name for atom in read.topology.atoms] == list(atoms.names)
    np.testing.assert_allclose(read.xyz[0], positions.numpy(), atol=2e-3)
    beside = json.loads((tmp_path / "gen.json").read_text())
    assert (beside["sequence"], beside["settings"]["restart"]) == (SEQUENCE, RESTART)
    succeed(
        "generate", "upsample", surrogate_path, "--input", tmp_path / "gen.xtc", "--topology",
        tmp_path / "gen.pdb", "--factor", 2, "--interval-ps", 4, "--device", "cpu", "--out",
        tmp_path / "fine.xtc",
    )  # fmt: skip
    assert json.loads((tmp_path / "fine.json").read_text())["settings"]["restart"] == 0
    succeed(
        "generate", "forward", surrogate_path, "--after", tmp_path / "gen.xtc", "--topology",
        tmp_path / "gen.pdb", "--frames", 5, "--device", "cpu", "--out", tmp_path / "on.xtc",
    )  # fmt: skip
    after = mdtraj.load(str(tmp_path / "on.xtc"), top=str(tmp_path / "on.pdb"))
    assert after.n_frames == 5
    np.testing.assert_allclose(after.xyz[:2], read.xyz[-2:], atol=2e-3)
    fine = mdtraj.load(str(tmp_path / "fine.xtc"), top=str(tmp_path / "fine.pdb"))
    np.testing.assert_allclose(fine.xyz[::2], read.xyz, atol=3e-3)
    (tmp_path / "cut.pdb").write_text(
        "".join(
            line
            for line in (tmp_path / "start.pdb").read_text().splitlines(keepends=True)
            if " CZ " not in line
        )
    )
    refused = trajgen(
        "generate", "forward", surrogate_path, "--start", tmp_path / "cut.pdb", "--frames", 8,
        "--out", tmp_path / "no.xtc",
    )  # fmt: skip
    assert refused.code == 2
    assert "lacks atoms of the model: CZ of TYR2" in refused.error
    npz = trajgen(
        "generate", "ensemble", surrogate_path, "--frames", 2, "--device", "cpu",
        "--out", tmp_path / "no.npz",
    )  # fmt: skip
    assert npz.code == 2
    assert "cannot hold atoms" in npz.error


def test_a_start_may_have_hydrogens(surrogate_path: Path, tmp_path: Path):
    built = build_peptide(SEQUENCE, extended_backbone(SEQUENCE), FREE)
    modeller = app.Modeller(built.topology, built.positions_nm * unit.nanometer)
    modeller.addHydrogens(app.ForceField("amber14/protein.ff14SB.xml"))
    assert modeller.topology.getNumAtoms() > built.topology.getNumAtoms() + 20
    with (tmp_path / "start.pdb").open("w") as file:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, file)
    succeed(
        "generate", "forward", surrogate_path, "--start", tmp_path / "start.pdb", "--frames", 3,
        "--device", "cpu", "--out", tmp_path / "gen.xtc",
    )  # fmt: skip
    read = mdtraj.load(str(tmp_path / "gen.xtc"), top=str(tmp_path / "gen.pdb"))
    atoms, positions = peptide()
    assert [atom.name for atom in read.topology.atoms] == list(atoms.names)
    assert "OXT" in atoms.names
    np.testing.assert_allclose(read.xyz[0], positions.numpy(), atol=2e-3)


@pytest.mark.parametrize("make", [partial(wobbling_peptide, caps=True), two_chains])
def test_caps_and_several_chains_are_generated_whole(tmp_path: Path, make):
    dataset = make_peptide_dataset(tmp_path / "data", frames=40, make=make)
    settings = tiny_settings(2)
    model = settings.model.model_copy(update={"resolution": "heavy"})
    settings = settings.model_copy(update={"model": model})
    found = load_surrogate(train_surrogate([dataset], tmp_path / "model", settings, 1, CPU), CPU)
    atoms, positions = make(2, 7)
    rolled = forward(found, positions, 9, LAG_PS, SETTINGS, 1)
    drawn = ensemble(found, 3, SETTINGS, 1)
    one, other = np.array(atoms.bonds).T
    lengths = np.linalg.norm(positions[0, one] - positions[0, other], axis=-1)
    for rollouts in (rolled, drawn):
        assert rollouts.topology == atoms
        assert rollouts.alive.all()
        apart = rollouts.positions_nm[..., one, :] - rollouts.positions_nm[..., other, :]
        assert np.abs(np.linalg.norm(apart, axis=-1) - lengths).max() < 1e-3


def test_paths_with_overlapping_atoms_come_after_those_without(surrogate: Surrogate):
    _, positions = wobbling_peptide(9, 5)
    paths = interpolate(surrogate, positions[0], positions[1], 5, 2, LAG_PS, SETTINGS, 1)
    spoilt = paths.positions_nm.copy()
    ring, carbonyl = surrogate.topology.index(1, "OH"), surrogate.topology.index(3, "CA")
    spoilt[0, 2, ring] = spoilt[0, 2, carbonyl] + 0.05  # alpha carbons are where they were
    best_first, scores = ranked(surrogate, replace(paths, positions_nm=spoilt), LAG_PS, SETTINGS, 1)
    assert np.array_equal(best_first.positions_nm[0], paths.positions_nm[1])
    assert [score.valid_share for score in scores] == [1.0, 0.8]


def test_a_dataset_of_beads_has_no_atoms_to_train_on(tmp_path: Path):
    from toy_chain import make_dataset, wobbling_chain

    beads = make_dataset(tmp_path / "dataset", [wobbling_chain(40, 0), wobbling_chain(40, 1)])
    settings = tiny_settings(2)
    model = settings.model.model_copy(update={"resolution": "heavy"})
    with pytest.raises(InputError, match="of beads only, and resolution is heavy"):
        train_surrogate(
            [beads], tmp_path / "model", settings.model_copy(update={"model": model}), 1, CPU
        )
