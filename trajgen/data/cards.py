"""What the commands write beside the trajectories they make: a card of how they were made."""

import re
from pathlib import Path
from typing import Any

from trajgen.errors import InputError
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


def refuse_other_clock(path: Path, time_step_ps: float) -> None:
    """Check that nothing beside a trajectory speaks against a time between its frames.

    Raises:
        InputError: its card says that its frames are on the clock of coarse-grained dynamics, which
            is not that of real chains, or that they follow each other in no time.
    """
    found = card_beside(path)
    if found is None or found[1].get("time_step_ps") is not None:
        return
    file, card = found
    step = card.get("time_step_cg_ps")
    said = "do not follow each other in time"
    if step is not None:
        said = f"are {step:g} cg_ps apart, and that clock is not the one of real chains"
    raise InputError(
        f"time_step_ps is {time_step_ps:g}, but the frames of {path} {said}, as {file.name} beside "
        "it says; leave out --time-step-ps"
    )
