"""What the commands write beside the trajectories they make: a card of how they were made."""

import re
from pathlib import Path
from typing import Any

from trajgen.files import read_json


def card_beside(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the card that names a trajectory as one of its files; None where there is none.

    Chains of one simulation are NAME_000.xtc and so on, with one card NAME.json.

    Raises:
        InputError: the file that should be the card is damaged.
    """
    for stem in (path.stem, re.sub(r"_\d{3,}$", "", path.stem)):
        file = path.with_name(f"{stem}.json")
        card = read_json(file) if file.is_file() else None
        files = card.get("files") if isinstance(card, dict) else None
        if isinstance(card, dict) and isinstance(files, list) and path.name in files:
            return file, card
    return None
