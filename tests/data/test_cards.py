"""Cards beside trajectories: found for every file of a command, and for no other file."""

from pathlib import Path

import pytest

from trajgen.data.cards import card_of
from trajgen.files import write_json


@pytest.mark.parametrize("name", ["sim.npz", "sim_000.xtc", "sim_012.xtc"])
def test_the_card_of_a_file_that_it_names(tmp_path: Path, name: str) -> None:
    card = {"files": ["sim.npz", "sim_000.xtc", "sim_012.xtc"], "seed": 3}
    write_json(tmp_path / "sim.json", card)
    assert card_of(tmp_path / name) == card


def test_files_of_other_origin_have_none(tmp_path: Path) -> None:
    write_json(tmp_path / "sim.json", {"files": ["sim.npz"]})
    write_json(tmp_path / "list.json", [1, 2])
    (tmp_path / "broken.json").write_text("{")
    for name in ("sim_000.xtc", "sim.xtc", "list.xtc", "broken.xtc", "nothing.xtc", "_1.xtc"):
        assert card_of(tmp_path / name) == {}
