"""Time the surrogate: a training step, and sampling with batched replicas.

python scripts/bench_surrogate.py --json bench.json

All are of ten residues in windows of 100 frames with heavy tokens, at the width and depth (128, 4
blocks) and the evaluations (20) that the code of MDGen was timed at on a machine of 2 CPU cores:
0.68 s a training step of 4 windows, and 113 frames a second in a batch of one. The ratios are to
these numbers, which were measured on another day; they mean something on such a machine only. What
is timed is all of it: tokens, network, optimizer, and atoms of the frames that come out. Longer
rollouts chain windows, each of which shares two frames with the one before; a frame of theirs
should cost the same however long they are.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from al.molecule.peptide import build_peptide, extended_backbone
from al.molecule.settings import CapSettings
from trajgen.data.records import Timeline
from trajgen.data.stored_positions import StoredPositions
from trajgen.data.trajectories import solute_of
from trajgen.data.windows import Runs
from trajgen.device import choose_device, fix_threads, products_in
from trajgen.files import write_json
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.conditioning import TaskSettings, forward_mask
from trajgen.surrogate.forward import forward
from trajgen.surrogate.objective import ask, draw_batch, window_losses
from trajgen.surrogate.resolutions import AllHeavyAtoms
from trajgen.surrogate.surrogate import Molecule, Surrogate, SurrogateSettings
from trajgen.surrogate.tokens import (
    TokenScale,
    channels_in_use,
    encode,
    reference_frames,
    superpose_on_reference,
)
from trajgen.surrogate.transformer import Dimensions, TrajectoryTransformer
from trajgen.surrogate.window_source import WindowPool, WindowSource

SEQUENCE = "GYDPETGTWG"
FRAMES, LAG_PS, TEMPERATURE_K, CONTEXT_NOISE_NM = 100, 10.0, 300.0, 0.005
SIZE = Dimensions(width=128, blocks=4, heads=4, encoder_rounds=2)
#: What the code of MDGen took on 2 cores: seconds a step, frames a second.
MDGEN_STEP_S, MDGEN_FRAMES_PER_S = 0.68, 113.0


def make_frames(count: int) -> tuple[AllHeavyAtoms, torch.Tensor]:
    """Return a peptide, and frames of it whose torsions wander."""
    built = build_peptide(SEQUENCE, extended_backbone(SEQUENCE), CapSettings())
    solute = solute_of(mdtraj.Topology.from_openmm(built.topology), Path("made.pdb"))
    atoms, kept = solute.topology.without_hydrogens()
    start = torch.from_numpy(built.positions_nm[solute.indices][list(kept)]).float()[None]
    model = AllHeavyAtoms.measure(atoms, start)
    steps = 0.1 * torch.randn(count, *model.has_torsion.shape, generator=generator(0))
    steps[..., 0] = 0.0
    torsions = model.torsions(start) + steps.cumsum(dim=0) * model.has_torsion
    return model, model.geometry.build(model.chains[0].build(torsions), torsions)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def describe(model: AllHeavyAtoms, frames: torch.Tensor) -> Molecule:
    """Return what a surrogate knows of the peptide, its scale measured on the frames."""
    windows = frames[: 20 * FRAMES].view(20, FRAMES, -1, 3)
    known = forward_mask(FRAMES, len(SEQUENCE)).expand(20, -1, -1)
    reference = reference_frames(windows, known, frames[0], model)
    aligned = superpose_on_reference(windows, known, reference, model)
    tokens = encode(aligned, reference, model).flatten(0, 2)
    used = channels_in_use(model).repeat(20 * FRAMES, 1)
    elapsed = LAG_PS * torch.arange(FRAMES).repeat(20).repeat_interleave(len(SEQUENCE)).float()
    grid, borrowed = torch.tensor([LAG_PS, FRAMES * LAG_PS]), torch.zeros(len(tokens)).bool()
    scale = TokenScale.measure(tokens, used, elapsed.clamp(min=LAG_PS), borrowed, grid)
    return Molecule(model, frames[0], None, (LAG_PS, LAG_PS), (TEMPERATURE_K,), scale)


def median_seconds(call: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Return the median time of calls over a stretch of time, at least three of them."""
    times: list[float] = []
    call()
    while len(times) < 3 or sum(times) < seconds:
        begin = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def training_step(
    network: TrajectoryTransformer, molecule: Molecule, frames: torch.Tensor, batch: int,
    device: torch.device, arguments: argparse.Namespace,
) -> Callable[[], None]:  # fmt: skip
    """Return one optimizer step of a batch of windows of all tasks."""
    timeline = Timeline(np.zeros(len(frames), np.int64), LAG_PS)
    pool = WindowPool(Runs.find([timeline]), np.array([LAG_PS]))
    source = WindowSource(
        StoredPositions((frames,), ("made",)),
        torch.full((len(frames),), TEMPERATURE_K),
        pool,
        pool,
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    settings = SurrogateSettings(resolution="heavy", window_frames=FRAMES)
    tasks, here = TaskSettings(), molecule.to(device)
    run = torch.compile(network) if arguments.compile else network

    def step() -> None:
        drawn = draw_batch(
            source, molecule.resolution, batch, FRAMES, tasks, CONTEXT_NOISE_NM, generator(1)
        )
        optimizer.zero_grad()
        with products_in(arguments.precision, device):
            loss = window_losses(run, ask(source, drawn, here, settings)).mean()
        loss.backward()
        optimizer.step()

    return step


def chained_seconds(
    surrogate: Surrogate, starts: np.ndarray, length: int, settings: RolloutSettings
) -> float:
    """Return the seconds of a frame of rollouts of a length, each of which is made once."""
    chained = settings.model_copy(update={"context": 2})
    begin = time.perf_counter()
    forward(surrogate, starts, length, LAG_PS, chained, 0)
    return (time.perf_counter() - begin) / (len(starts) * (length - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[4], help="windows of a step")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument(
        "--lengths", type=int, nargs="*", default=[100, 1000], help="frames of chained rollouts"
    )
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="let torch compile the network")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each size")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    arguments = parser.parse_args()
    threads, device = fix_threads(), choose_device(arguments.device)
    model, frames = make_frames(30 * FRAMES)
    molecule = describe(model, frames)
    torch.manual_seed(0)
    network = TrajectoryTransformer(SIZE, 7).to(device)
    for weights in network.parameters():  # layers that begin as zero would be fast for nothing
        torch.nn.init.normal_(weights, std=0.02)
    result: dict[str, Any] = {
        "device": str(device),
        "precision": arguments.precision,
        "compile": arguments.compile,
        "threads": threads,
        "training": {},
        "sampling": {},
        "chained": {},
    }
    table = Table("what", "size", "time", "to MDGen on 2 cores")
    for batch in arguments.batch:
        step = training_step(network.train(), molecule, frames, batch, device, arguments)
        seconds = median_seconds(step, arguments.seconds, device)
        ratio = MDGEN_STEP_S / 4 * batch / seconds
        result["training"][str(batch)] = {"seconds": seconds, "ratio": ratio}
        table.add_row("training step", f"{batch} windows", f"{seconds:.3f} s", f"{ratio:.2f}")
    settings = RolloutSettings(
        evaluations=arguments.evaluations,
        context=1,
        batch=max(arguments.replicas),
        precision=arguments.precision,
        compile=arguments.compile,
    )
    surrogate = Surrogate(
        network, SurrogateSettings(resolution="heavy", window_frames=FRAMES), molecule.to(device)
    )
    for replicas in arguments.replicas:
        starts = frames[:replicas].numpy()

        def sample(starts: np.ndarray = starts) -> object:
            return forward(surrogate, starts, FRAMES, LAG_PS, settings, 0)

        seconds = median_seconds(sample, arguments.seconds, device)
        rate = replicas * (FRAMES - 1) / seconds
        ratio = rate / MDGEN_FRAMES_PER_S
        result["sampling"][str(replicas)] = {"frames_per_s": rate, "ratio": ratio}
        table.add_row("sampling", f"{replicas} replicas", f"{rate:.0f} frames/s", f"{ratio:.2f}")
    starts = frames[: min(arguments.replicas)].numpy()
    for length in arguments.lengths:
        per_frame_s = chained_seconds(surrogate, starts, length, settings)
        result["chained"][str(length)] = {"seconds_per_frame": per_frame_s}
        table.add_row("chained", f"{length} frames", f"{1000 * per_frame_s:.2f} ms a frame", "")
    Console(width=100).print(table)
    if arguments.json is not None:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
