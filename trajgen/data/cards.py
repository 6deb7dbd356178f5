"""What is known of how a trajectory or a dataset came about."""

from pathlib import Path
from typing import Any

from trajgen.data.store import Dataset
from trajgen.errors import InputError
from trajgen.files import read_json


def card_of(path: Path) -> dict[str, Any]:
    """Return the hash of a dataset, or what the commands wrote beside a trajectory they made.

    It is empty for files of other origin.
    """
    if path.is_dir():
        return {"dataset_sha256": Dataset.open(path).digest()}
    # Chains of one simulation are NAME_000.xtc and so on, with one card NAME.json.
    for stem in (path.stem, path.stem.rpartition("_")[0]):
        card = _read(path.with_name(f"{stem}.json")) if stem else {}
        if path.name in card.get("files", ()):
            return card
    return {}


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        card = read_json(file)
    except InputError:  # somebody else's file of that name
        return {}
    return card if isinstance(card, dict) else {}
