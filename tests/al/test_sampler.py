"""The sampler of the loop: what later steps cannot take is refused before any dynamics."""

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


@pytest.mark.parametrize(
    ("resolution", "ends"), [("heavy", InputError), ("ca", DynamicsBeganError)]
)
def test_bonds_across_chains_are_refused_for_heavy_atoms_before_any_dynamics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resolution: str, ends: type[Exception]
) -> None:
    def begin(*_: object, **__: object) -> None:
        raise DynamicsBeganError

    monkeypatch.setattr(ProcessExecutor, "run", begin)
    pdb = write_bridged_dimer(tmp_path / "dimer.pdb")
    changes = [
        f"system={{name: dimer, pdb: {pdb}, solvent: none}}",
        f"surrogate.model.resolution={resolution}",
    ]
    run = tmp_path / "run"
    run.mkdir()
    parts = assemble(load_run_settings(SMOKE, changes), run, SILENT)
    with pytest.raises(ends) as found:
        parts.sampler.sample(run)
    if ends is InputError:
        message = str(found.value)
        assert message.startswith("surrogate.model.resolution is heavy, but SG of ")
        assert message.count("use model.resolution=ca") == 1
        assert "another --out" in message
