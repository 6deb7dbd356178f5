"""Where files that are judged come from, as a report tells it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trajgen.data.cards import card_beside
from trajgen.data.store import Dataset
from trajgen.files import sha256_of

#: What a card says of each of its chains, which is long and known from elsewhere.
_BY_CHAIN = ("files", "frames_alive")


def origins(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return by path the hash of a dataset or of a file, or by card what made its trajectories."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        if path.is_dir():
            found[str(path)] = {"dataset_sha256": Dataset.open(path).digest()}
        elif (beside := card_beside(path)) is not None:
            file, card = beside
            new = {name: value for name, value in card.items() if name not in _BY_CHAIN}
            found.setdefault(str(file), {**new, "trajectories": 0})["trajectories"] += 1
        else:
            found[str(path)] = {"sha256": sha256_of(path)}
    return found
