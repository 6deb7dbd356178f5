#!/usr/bin/env bash
# From the sequence of chignolin to an improved model: installs, runs two rounds of the loop, prints what was gained.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" report
al run configs/quickstart.yaml --out "${1:-runs/quickstart}"
