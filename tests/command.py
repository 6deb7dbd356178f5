"""Runs the command in this process, as a terminal would."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from trajgen.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: its exit code and the two streams."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one sentence of a failed command."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0].removeprefix("error: ")


def trajgen(*arguments: object) -> Outcome:
    """Run ``trajgen`` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        patch.object(sys, "argv", ["trajgen", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(*arguments: object) -> Outcome:
    """Run ``trajgen``, which must succeed."""
    outcome = trajgen(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome
