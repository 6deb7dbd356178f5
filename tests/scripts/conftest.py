"""The scripts stand in no package: their folder, and that of the toy peptide, come on the path."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]

for folder in (TESTS / "surrogate", TESTS.parent / "scripts"):
    sys.path.insert(0, str(folder))
