"""What the commands share: their options, and how these become settings."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajgen.console import require_seed

if TYPE_CHECKING:
    import torch

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.yaml", help="Settings file.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, dotted.key=value; repeatable."),
]
Seed = Annotated[
    int, typer.Option("--seed", callback=require_seed, help="Base of every random draw.")
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Temperature = Annotated[float | None, typer.Option("--temperature", help="Temperature, K.")]


def overrides(**flags: Any) -> list[str]:
    """Return the flags that were given in the form of --set, which they overrule."""
    return [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]


def device_of(name: str) -> "torch.device":
    """Return the device of a name, and take the threads that the user wants."""
    from trajgen.device import choose_device, fix_threads

    fix_threads()
    return choose_device(name)
