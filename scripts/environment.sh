#!/usr/bin/env bash
# Make .venv in the project's root and install the pinned dependencies; does nothing where that is done.
# Sourced by quickstart.sh and test.sh with the wanted extras as first argument ("" or "dev").
#   PYTHON               interpreter to use (default: python3; 3.11 to 3.13)
#   TRAJGEN_TORCH_INDEX  package index for torch, e.g. https://download.pytorch.org/whl/cpu for a CPU build
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"
EXTRAS="${1:-}"
PYTHON="${PYTHON:-python3}"

"$PYTHON" - <<'PY' || { echo "error: Python 3.11 to 3.13 is needed; set PYTHON=/path/to/python3.11" >&2; exit 2; }
import sys
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PY

# What is installed is known by the files that decide it: a second run with the same files reuses the environment.
FILES="$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)"
WANTED="$FILES extras=$EXTRAS"
STAMP=.venv/installed
if [ ! -f "$STAMP" ] || ! grep -qxF "$WANTED" "$STAMP"; then
    echo "Installing into $ROOT/.venv (a few minutes the first time) ..."
    [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
    TORCH="$(grep -E '^torch==' constraints.txt)"
    if [ -n "${TRAJGEN_TORCH_INDEX:-}" ]; then
        .venv/bin/python -m pip install -q --index-url "$TRAJGEN_TORCH_INDEX" "$TORCH"
    else
        .venv/bin/python -m pip install -q -c constraints.txt "$TORCH"
    fi
    TARGET="."
    [ -n "$EXTRAS" ] && TARGET=".[$EXTRAS]"
    .venv/bin/python -m pip install -q -c constraints.txt -e "$TARGET"
    { grep -s "^$FILES " "$STAMP" || true; echo "$WANTED"; } >"$STAMP.new"
    mv "$STAMP.new" "$STAMP"
fi
export PATH="$ROOT/.venv/bin:$PATH"
