"""The errors that a user can act on, and the exit code of each."""


class TrajgenError(Exception):
    """An error with one clear sentence for the user: what came, what is wanted, how to mend it."""

    exit_code = 1


class InputError(TrajgenError, ValueError):
    """What the user gave cannot be used (exit code 2)."""

    exit_code = 2


class WorkError(TrajgenError, RuntimeError):
    """The input was right, but the work failed (exit code 1)."""
