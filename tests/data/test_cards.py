"""Cards beside trajectories: found for every file of a command, and for no other file."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from trajgen.data.cards import card_beside
from trajgen.data.origins import origins
from trajgen.errors import InputError
from trajgen.files import write_json

FILES = ["sim.npz", "sim_000.xtc", "sim_012.xtc"]


@pytest.mark.parametrize("name", FILES)
def test_the_card_of_a_file_that_it_names(tmp_path: Path, name: str) -> None:
    card = {"files": FILES, "seed": 3}
    write_json(tmp_path / "sim.json", card)
    assert card_beside(tmp_path / name) == (tmp_path / "sim.json", card)


@pytest.mark.parametrize("content", [{"files": ["other.xtc"]}, {"files": 3}, [1], {"files": "x"}])
def test_files_of_other_origin_have_none(tmp_path: Path, content: Any) -> None:
    write_json(tmp_path / "sim.json", content)
    for name in ("sim_000.xtc", "sim.xtc", "sim_a.xtc", "nothing.xtc", "_001.xtc"):
        assert card_beside(tmp_path / name) is None


def test_a_damaged_card_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "sim.json").write_text("{")
    with pytest.raises(InputError, match="not a readable JSON file"):
        card_beside(tmp_path / "sim_000.xtc")


def test_chains_of_one_card_are_told_once_and_others_have_a_hash(tmp_path: Path) -> None:
    write_json(tmp_path / "sim.json", {"files": FILES, "frames_alive": [1, 2], "seed": 3})
    (tmp_path / "md.xtc").write_bytes(b"frames")
    found = origins([tmp_path / name for name in (*FILES, "md.xtc")])
    assert found == {
        str(tmp_path / "sim.json"): {"seed": 3, "trajectories": 3},
        str(tmp_path / "md.xtc"): {"sha256": hashlib.sha256(b"frames").hexdigest()},
    }
