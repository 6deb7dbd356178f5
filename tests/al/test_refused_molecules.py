"""Molecules that a later step of the loop cannot take are refused before any dynamics."""

from pathlib import Path

import pytest
from disulfide import write_bridged_dimer

from al.assembly import assemble
from al.executor import ProcessExecutor
from al.run_settings import load_run_settings
from trajgen.errors import InputError
from trajgen.progress import SILENT

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml"


class DynamicsBeganError(Exception):
    """Raised in place of all-atom dynamics."""


@pytest.fixture
def no_dynamics(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object, **__: object) -> None:
        raise DynamicsBeganError

    monkeypatch.setattr(ProcessExecutor, "run", begin)


def sample(run: Path, *changes: str) -> None:
    """Begin the sampling of a run."""
    run.mkdir()
    assemble(load_run_settings(SMOKE, changes), run, SILENT).sampler.sample(run)


@pytest.mark.usefixtures("no_dynamics")
def test_bonds_across_chains_are_refused_for_heavy_atoms_before_any_dynamics(
    tmp_path: Path,
) -> None:
    pdb = write_bridged_dimer(tmp_path / "dimer.pdb")
    dimer = f"system={{name: dimer, pdb: {pdb}, solvent: none}}"
    with pytest.raises(InputError) as refused:
        sample(tmp_path / "heavy", dimer, "surrogate.model.resolution=heavy")
    message = str(refused.value)
    assert message.startswith("surrogate.model.resolution is heavy, but SG of ")
    assert message.count("use model.resolution=ca") == 1
    assert "another --out" in message
    with pytest.raises(InputError, match="resolution is ca, but the molecule has 2 chains"):
        sample(tmp_path / "ca", dimer)
    with pytest.raises(DynamicsBeganError):
        sample(tmp_path / "one", "system={name: three, sequence: GAG, solvent: none}")


@pytest.mark.usefixtures("no_dynamics")
def test_too_few_beads_for_a_surrogate_are_refused_before_any_dynamics(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resolution is ca, but the molecule has 2 beads"):
        sample(tmp_path / "run", "system={name: two, sequence: GA, solvent: none}")
