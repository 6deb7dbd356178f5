#!/usr/bin/env bash
# Everything that guards a change: format, lint, types, walls between rooms, tests. Same at home and in CI.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev
export OMP_NUM_THREADS=1
echo "ruff format";   ruff format --check .
echo "ruff check";    ruff check .
echo "mypy, import walls, side by side"
mypy & types=$!
lint-imports
wait "$types"
echo "pytest";        pytest -n 2 --dist worksteal "$@"
