"""What ``al build`` says of a system."""

import json
from pathlib import Path

import pytest
from disulfide import write_bridged_dimer

from al import cli


def build(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> str:
    """Build a dimer; return what the command prints."""
    file = folder / "system.yaml"
    write_bridged_dimer(folder / "dimer.pdb")
    file.write_text("name: dimer\npdb: dimer.pdb\nsolvent: none\n")
    out = folder / "-".join(["system", *options])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["al", "build", str(file), "--out", str(out), *options])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code
    return capsys.readouterr().out


def test_the_chains_of_a_crystal_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "in 6 residues of 2 chains, starts: pdb;" in build(capsys, tmp_path)
    facts = json.loads(build(capsys, tmp_path, "--json"))
    assert (facts["residues"], facts["chains"]) == (6, 2)
