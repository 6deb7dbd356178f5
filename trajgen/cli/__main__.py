"""Runs the command as ``python -m trajgen.cli``."""

from trajgen.cli import main

main()
