"""Time an evaluation by number of frames, and its bootstrap against SciPy's distance.

python scripts/bench_analysis.py --frames 100000 300000 1000000 --json bench.json

Made-up ensembles of ten beads in 100 segments, as many reference frames as sample frames; every
measure of ``trajgen evaluate``, kinetics included. Each size runs in a process of its own, so that
its peak memory is its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.signal import lfilter
from scipy.stats import wasserstein_distance

from trajgen.analysis.evaluate import EvaluationSettings, judge, read_reference, read_samples
from trajgen.analysis.resampling import resampled_against
from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology

SEGMENTS = 100
SEQUENCE = ("TYR", "TYR", "ASP", "PRO", "GLU", "THR", "GLY", "THR", "TRP", "TYR")
#: Autocorrelation of the slow motions at one frame.
MEMORY = np.array([0.999, 0.99, 0.95, 0.8])


def make_frames(frames: int, seed: int, shift: float) -> BeadFrames:
    """Return a helix that moves along four directions, slowest first, and shakes along all."""
    generator = np.random.default_rng(seed)
    turn = np.arange(10) * 1.75
    helix = np.stack([0.23 * np.cos(turn), 0.23 * np.sin(turn), 0.15 * np.arange(10)], axis=1)
    directions = np.random.default_rng(0).normal(size=(4, 10, 3)) * 0.03
    length = frames // SEGMENTS
    kicks = generator.normal(size=(SEGMENTS, length, 4)) * np.sqrt(1 - MEMORY**2)
    kicks[:, 0] = generator.normal(size=(SEGMENTS, 4))  # stationary from the first frame on
    states = np.stack([lfilter([1], [1, -m], kicks[..., i], axis=1) for i, m in enumerate(MEMORY)])
    states = states.reshape(4, -1) + shift
    positions = (helix + np.einsum("kf,kbx->fbx", states, directions)).astype(np.float32)
    positions += 0.01 * generator.standard_normal(positions.shape, dtype=np.float32)
    segments = np.repeat(np.arange(SEGMENTS), length)
    return BeadFrames(BeadTopology.from_residues(SEQUENCE), positions, segments, time_step_ps=1.0)


def time_evaluation(frames: int) -> dict[str, float]:
    """Evaluate once; return seconds by stage and the peak memory of this process."""
    reference, samples = make_frames(frames, 1, 0.0), make_frames(frames, 2, 0.2)
    begin = time.perf_counter()
    known = read_reference(reference, EvaluationSettings(), seed=1)
    read = time.perf_counter()
    table = read_samples(samples, known)
    tabulated = time.perf_counter()
    judge(table, known)
    end = time.perf_counter()
    return {
        "frames": frames,
        "reference_s": read - begin,
        "samples_s": tabulated - read,
        "measures_s": end - tabulated,
        "total_s": end - begin,
        "cpu_s": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),
        "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
    }


def time_rival(frames: int = 100_000, resamples: int = 100) -> dict[str, float]:
    """Time the value and its resamples of one coordinate, here and by SciPy, a call for each."""
    generator = np.random.default_rng(3)
    mine, theirs = generator.normal(size=frames), generator.normal(0.1, size=frames)
    blocks = np.arange(frames) * SEGMENTS // frames
    ones = np.ones(frames)
    begin = time.perf_counter()
    rows = resampled_against(ones, blocks, ones, resamples, seed=1)
    ours = rows.distances(np.concatenate([mine, theirs])[:, None], None)[:, 0]
    middle = time.perf_counter()
    counts = rows.factors[:, :SEGMENTS]
    scipy = np.array([wasserstein_distance(mine, theirs, row[blocks], ones) for row in counts])
    end = time.perf_counter()
    return {
        "frames": frames,
        "resamples": resamples,
        "ours_s": middle - begin,
        "scipy_s": end - middle,
        "ratio": (end - middle) / (middle - begin),
        "largest_difference": float(np.abs(ours - scipy).max()),
        "spread_of_resamples": float(scipy[1:].std()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # a child process for one size
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(time_evaluation(arguments.one)))
        return
    rows = []
    for frames in arguments.frames:
        command = [sys.executable, __file__, "--one", str(frames)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout))
    table = Table(*(name.replace("_", " ") for name in rows[0]), title="trajgen evaluate")
    for row in rows:
        table.add_row(*(f"{value:,.4g}" for value in row.values()))
    Console().print(table)
    rival = time_rival()
    Console().print(
        f"Wasserstein-1 and {rival['resamples']} resamples of one coordinate, {rival['frames']:,} "
        f"against {rival['frames']:,} values: {rival['ours_s']:.3f} s, scipy.stats."
        f"wasserstein_distance {rival['scipy_s']:.2f} s, {rival['ratio']:.0f} times; largest "
        f"difference {rival['largest_difference']:.1e} (spread of the resamples "
        f"{rival['spread_of_resamples']:.1e})"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"evaluation": rows, "rival": rival}, indent=2))


if __name__ == "__main__":
    main()
