"""The command ``trajgen``: thin entries that read settings and call one function of a room.

Heavy libraries load inside the commands, so that ``trajgen --help`` answers at once.
"""

from typing import Annotated

import typer

from trajgen import __version__
from trajgen.cli.dataset import import_data, info
from trajgen.cli.evaluate import evaluate_command
from trajgen.cli.generate import (
    design_command,
    ensemble_command,
    forward_command,
    inpaint_command,
    interpolate_command,
    upsample_command,
)
from trajgen.cli.potential import fit, simulate
from trajgen.cli.train import train_command
from trajgen.console import configure_logging, exit_with_code
from trajgen.processes import die_with_launcher

app = typer.Typer(
    name="trajgen",
    help="Coarse-grained trajectories: import data, fit a potential, train a surrogate, "
    "generate, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
generate_app = typer.Typer(
    help="Generate trajectories with a trained surrogate.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("import")(import_data)
app.command()(fit)
app.command()(simulate)
app.command("train")(train_command)
app.add_typer(generate_app, name="generate")
app.command("evaluate")(evaluate_command)
app.command()(info)
generate_app.command("forward")(forward_command)
generate_app.command("interpolate")(interpolate_command)
generate_app.command("upsample")(upsample_command)
generate_app.command("inpaint")(inpaint_command)
generate_app.command("ensemble")(ensemble_command)
generate_app.command("design")(design_command)


def main() -> None:
    """Run the command; expected errors end with one sentence and an exit code."""
    die_with_launcher()
    configure_logging()
    with exit_with_code():
        app()


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"trajgen {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Coarse-grained trajectories: import, fit, simulate, train, generate, evaluate."""
