"""What commands print, and what they say of how a file was made."""

import json
from pathlib import Path
from typing import Any

import typer

from trajgen import __version__


def report(values: dict[str, Any], as_json: bool) -> None:
    """Print values, a line each or as JSON."""
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    for key, value in values.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value)) if len(value) <= 8 else f"{len(value)} entries"
        typer.echo(f"{key.replace('_', ' '):20} {value}")


def report_fit(card: dict[str, Any], as_json: bool) -> None:
    """Print the card of a potential with the tables of its fit."""
    from trajgen.potential.fit_report import REPORT_KEYS, report_lines

    if as_json or any(key not in card for key in REPORT_KEYS):  # fitted before there were reports
        report(card, as_json)
        return
    report({key: value for key, value in card.items() if key not in REPORT_KEYS}, as_json)
    for line in report_lines(card):
        typer.echo(line)


def say_whole(chains: int, lost: int, frames_lost: int) -> None:
    """Say how many chains came through."""
    typer.echo(f"{chains - lost} of {chains} chains are whole; {frames_lost} frames lost")


def provenance(
    command: str, checkpoint: Path, seed: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return how a file was made, for the JSON file beside it."""
    from trajgen.checkpoint import read_card

    return {
        "command": f"trajgen {command}",
        "trajgen_version": __version__,
        "checkpoint": str(checkpoint),
        "model_sha256": read_card(checkpoint).get("model_sha256"),
        "seed": seed,
        "settings": settings,
    }
