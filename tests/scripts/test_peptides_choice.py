"""Which peptides can judge a transfer, and what is said of those that ask for much."""

from argparse import Namespace
from pathlib import Path

import pytest
from accuracy_peptides import logger, require_transferable

from trajgen.errors import InputError


def choice(data: Path, train: list[str], test: list[str]) -> Namespace:
    """Return arguments with two runs of every peptide."""
    for name in (*train, *test):
        for run in (0, 1):
            (data / name / f"run-{run}").mkdir(parents=True, exist_ok=True)
    return Namespace(data=data, train=train, test=test)


def test_residues_at_new_places_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    # A command that ran in this process has told the log where to go.
    monkeypatch.setattr(logger, "warning", lambda text, *parts: lines.append(text % parts))
    require_transferable(choice(tmp_path, ["YVTL", "LYGH"], ["LGYH", "HVYL"]))
    assert lines == ["HVYL has residues where no peptide of --train has them: H (first)"]


def test_unknown_residues_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="residues W, which no peptide"):
        require_transferable(choice(tmp_path, ["YVTL"], ["WLTV"]))


def test_shared_triples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shares the triples VTL"):
        require_transferable(choice(tmp_path, ["YVTL"], ["VTLY"]))
