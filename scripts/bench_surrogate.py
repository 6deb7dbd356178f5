"""Time the surrogate: a training step, and sampling with batched replicas.

python scripts/bench_surrogate.py --json bench.json

All are of ten residues in windows of 100 frames with heavy tokens, at the width and depth (128, 4
blocks) and the evaluations (20) that the code of MDGen was timed at on a machine of 2 CPU cores:
0.68 s a training step of 4 windows, and 113 frames a second in a batch of one. The ratios are to
these numbers, which were measured on another day; they mean something on such a machine only. What
is timed is all of it: tokens, network, optimizers, and atoms of the frames that come out. Longer
rollouts chain windows, each of which shares two frames with the one before; a frame of theirs
should cost the same however long they are.

On a GPU, or with --published, 10,000 frames of a tetrapeptide are made as MDGen was published to
make them: windows of 1,000 frames after each other, width 384, 5 blocks. It says 60 s a peptide,
of an adaptive solver that takes 200 evaluations or more. Ten windows that share a frame make 9,991
frames; the seconds are those of that, times 10,000 / 9,991.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from al.molecule.peptide import build_peptide, extended_backbone
from al.molecule.settings import CapSettings
from trajgen.data.stored_positions import StoredPositions
from trajgen.data.structures import solute_of
from trajgen.data.timeline import Timeline
from trajgen.data.windows import Runs
from trajgen.device import choose_device, fix_threads, products_in
from trajgen.files import write_json
from trajgen.surrogate.base_noise import Relaxations
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.conditioning import TaskSettings, forward_mask
from trajgen.surrogate.encoded_windows import Molecule
from trajgen.surrogate.forward import forward
from trajgen.surrogate.objective import ask, draw_batch, window_losses
from trajgen.surrogate.optimizers import make_optimizers, set_learning_rate
from trajgen.surrogate.resolutions import AllHeavyAtoms
from trajgen.surrogate.surrogate import Surrogate, SurrogateSettings
from trajgen.surrogate.tokens import (
    TokenScale,
    channels_in_use,
    channels_that_change,
    encode,
    reference_frames,
    superpose_on_reference,
)
from trajgen.surrogate.transformer import Dimensions, TrajectoryTransformer
from trajgen.surrogate.window_source import WindowPool, WindowSource

LAG_PS, TEMPERATURE_K, CONTEXT_NOISE_NM = 10.0, 300.0, 0.005


@dataclass(frozen=True)
class Case:
    """What is timed: a peptide, the frames of a window, and the sizes of the network."""

    sequence: str
    frames: int
    size: Dimensions


DECAPEPTIDE = Case("GYDPETGTWG", 100, Dimensions(width=128, blocks=4, heads=4, encoder_rounds=2))
TETRAPEPTIDE = Case("GYDP", 1000, Dimensions(width=384, blocks=5, heads=16, encoder_rounds=5))
#: Windows that follow each other, and the frames that MDGen's time is of.
WINDOWS, PUBLISHED_FRAMES = 10, 10_000
#: What the code of MDGen took on 2 cores: seconds a step, frames a second; and, as published, on a
#: GPU: seconds of 10,000 frames.
MDGEN_STEP_S, MDGEN_FRAMES_PER_S, MDGEN_PUBLISHED_S = 0.68, 113.0, 60.0


def make_frames(sequence: str, count: int) -> tuple[AllHeavyAtoms, torch.Tensor]:
    """Return a peptide, and frames of it whose torsions wander."""
    built = build_peptide(sequence, extended_backbone(sequence), CapSettings())
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


def describe(case: Case, model: AllHeavyAtoms, frames: torch.Tensor) -> Molecule:
    """Return what a surrogate knows of the peptide, its scale measured on the frames."""
    count, length, residues = len(frames) // case.frames, case.frames, len(case.sequence)
    windows = frames[: count * length].view(count, length, -1, 3)
    known = forward_mask(length, residues).expand(count, -1, -1)
    reference = reference_frames(windows, known, frames[0], model)
    aligned = superpose_on_reference(windows, known, reference, model)
    tokens = encode(aligned, reference, model).flatten(0, 2)
    used = channels_in_use(model).repeat(count * length, 1)
    elapsed = LAG_PS * torch.arange(length).repeat(count).repeat_interleave(residues).float()
    grid, borrowed = torch.tensor([LAG_PS, length * LAG_PS]), torch.zeros(len(tokens)).bool()
    scale = TokenScale.measure(tokens, used, elapsed.clamp(min=LAG_PS), borrowed, grid)
    relaxations = Relaxations.fit(grid, scale.std[:-1], channels_that_change(model))
    lags_ps, temperatures_K = (LAG_PS, LAG_PS), (TEMPERATURE_K,)
    return Molecule(model, frames[0], None, lags_ps, temperatures_K, scale, relaxations)


def make_surrogate(case: Case, device: torch.device) -> tuple[Surrogate, torch.Tensor]:
    """Return a network of a case with random weights for its peptide, and frames of it."""
    model, frames = make_frames(case.sequence, 20 * case.frames)
    molecule = describe(case, model, frames)
    torch.manual_seed(0)
    network = TrajectoryTransformer(case.size, 7).to(device)
    for weights in network.parameters():  # layers that begin as zero would be fast for nothing
        torch.nn.init.normal_(weights, std=0.02)
    settings = SurrogateSettings(resolution="heavy", window_frames=case.frames)
    return Surrogate(network, settings, molecule.to(device)), frames


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
    surrogate: Surrogate, frames: torch.Tensor, batch: int, device: torch.device,
    arguments: argparse.Namespace,
) -> Callable[[], None]:  # fmt: skip
    """Return one optimizer step of a batch of windows of all tasks."""
    network, settings = surrogate.network, surrogate.settings
    timeline = Timeline.of([np.zeros(len(frames), np.int64)], [LAG_PS])
    pool = WindowPool(Runs.find(timeline), np.array([LAG_PS]))
    source = WindowSource(
        StoredPositions((frames,), ("made",)),
        torch.tensor([TEMPERATURE_K]),
        pool,
        pool,
    )
    optimizers = make_optimizers(network, weight_decay=0.01)
    set_learning_rate(optimizers, 1e-4)
    tasks, resolution = TaskSettings(), surrogate.molecule.resolution.to(torch.device("cpu"))
    run = torch.compile(network) if arguments.compile else network

    def step() -> None:
        drawn = draw_batch(
            source, resolution, batch, settings.window_frames, tasks, CONTEXT_NOISE_NM,
            generator(1),
        )  # fmt: skip
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        with products_in(arguments.precision, device):
            loss = window_losses(run, ask(source, drawn, surrogate.molecule, settings)).mean()
        loss.backward()
        for optimizer in optimizers.values():
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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[4], help="windows of a step")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument(
        "--lengths", type=int, nargs="*", default=[100, 1000], help="frames of chained rollouts"
    )
    parser.add_argument(
        "--published", action="store_true", help="time the published case without a GPU too"
    )
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="let torch compile the network")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each size")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    return parser.parse_args()


def time_training(
    surrogate: Surrogate, frames: torch.Tensor, device: torch.device, table: Table,
    arguments: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """Return seconds of training steps, by the number of windows."""
    found = {}
    for batch in arguments.batch:
        step = training_step(surrogate, frames, batch, device, arguments)
        seconds = median_seconds(step, arguments.seconds, device)
        ratio = MDGEN_STEP_S / 4 * batch / seconds
        found[str(batch)] = {"seconds": seconds, "ratio": ratio}
        table.add_row("training step", f"{batch} windows", f"{seconds:.3f} s", f"{ratio:.2f}")
    return found


def time_sampling(
    surrogate: Surrogate, frames: torch.Tensor, device: torch.device, table: Table,
    settings: RolloutSettings, arguments: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """Return frames a second of one window, by the number of replicas."""
    found, length = {}, surrogate.settings.window_frames
    for replicas in arguments.replicas:
        starts = frames[:replicas].numpy()

        def sample(starts: np.ndarray = starts) -> object:
            return forward(surrogate, starts, length, LAG_PS, settings, 0)

        seconds = median_seconds(sample, arguments.seconds, device)
        rate = replicas * (length - 1) / seconds
        ratio = rate / MDGEN_FRAMES_PER_S
        found[str(replicas)] = {"frames_per_s": rate, "ratio": ratio}
        table.add_row("sampling", f"{replicas} replicas", f"{rate:.0f} frames/s", f"{ratio:.2f}")
    return found


def time_published(device: torch.device, table: Table, settings: RolloutSettings) -> dict[str, Any]:
    """Return the seconds of the frames of a tetrapeptide that MDGen published."""
    surrogate, frames = make_surrogate(TETRAPEPTIDE, device)
    alone, start = settings.model_copy(update={"batch": 1}), frames[:1].numpy()
    forward(surrogate, start, TETRAPEPTIDE.frames, LAG_PS, alone, 0)  # compiles what is compiled
    length = WINDOWS * (TETRAPEPTIDE.frames - 1) + 1
    begin = time.perf_counter()
    forward(surrogate, start, length, LAG_PS, alone, 0)
    seconds = (time.perf_counter() - begin) * PUBLISHED_FRAMES / length
    ratio = MDGEN_PUBLISHED_S / seconds
    row = f"{PUBLISHED_FRAMES} frames of a tetrapeptide"
    table.add_row("published", row, f"{seconds:.3g} s", f"{ratio:.2f} (to 60 s on a GPU)")
    return {"seconds": seconds, "ratio": ratio, "frames": PUBLISHED_FRAMES}


def main() -> None:
    arguments = parse_arguments()
    threads, device = fix_threads(), choose_device(arguments.device)
    table = Table("what", "size", "time", "to MDGen on 2 cores")
    surrogate, frames = make_surrogate(DECAPEPTIDE, device)
    settings = RolloutSettings(
        evaluations=arguments.evaluations,
        context=1,
        batch=max(arguments.replicas),
        precision=arguments.precision,
        compile=arguments.compile,
    )
    result: dict[str, Any] = {
        "device": str(device),
        "precision": arguments.precision,
        "compile": arguments.compile,
        "evaluations": arguments.evaluations,
        "threads": threads,
        "training": time_training(surrogate, frames, device, table, arguments),
        "sampling": time_sampling(surrogate, frames, device, table, settings, arguments),
        "chained": {},
    }
    starts = frames[: min(arguments.replicas)].numpy()
    for length in arguments.lengths:
        per_frame_s = chained_seconds(surrogate, starts, length, settings)
        result["chained"][str(length)] = {"seconds_per_frame": per_frame_s}
        table.add_row("chained", f"{length} frames", f"{1000 * per_frame_s:.2f} ms a frame", "")
    if device.type == "cuda" or arguments.published:
        result["published"] = time_published(device, table, settings)
    Console(width=100).print(table)
    if arguments.json is not None:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
