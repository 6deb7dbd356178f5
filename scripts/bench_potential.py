"""Time energies and forces of one potential: the fast path, its plain twin, and rivals.

python scripts/bench_potential.py --json bench.json

All evaluate the same weights in one process and take turns; a time is the median of calls. Ours
include the priors, the rivals are the network alone: torchmd-net's graph network (torchmd-net 3.1.0
from PyPI) and a SchNet that gathers and scatters along edges, built on torch-geometric. The edges
of the latter are found once and are not in its times. Chains are made up, and so are the weights.
The drift is the change of the total energy of dynamics without friction, by time. Whole steps are
those of a simulation, with its noise, integrator and checks, on the device that --device names.
"""

import argparse
import copy
import json
import os
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from potential_speed.molecules import CHIGNOLIN, TEMPERATURE_K, make_chains, make_potential
from potential_speed.rivals import RIVALS, Evaluate, scatter_schnet, torchmd_net
from potential_speed.timing import medians, peak_MiB
from potential_speed.training import time_committee, time_training
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from trajgen.device import choose_device
from trajgen.potential.dynamics.integrators import Baoab
from trajgen.potential.dynamics.noise import NOISE_BLOCK
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulation import Simulation
from trajgen.potential.energy import energy_and_forces
from trajgen.potential.fast.fast_potential import FastPotential
from trajgen.potential.potential import Potential
from trajgen.progress import ProgressTask
from trajgen.residues import THREE_LETTER
from trajgen.units import thermal_energy

TIME_STEP_PS = 0.004
#: Most chains that a path without blocks of its own is given at once, to bound its memory.
AT_ONCE = 256
#: Up to this size errors are measured against float64; beyond, all pairs take too much memory.
MOST_EXACT_BEADS = 256


def in_parts(evaluate: Evaluate, positions_nm: Tensor) -> tuple[Tensor, Tensor]:
    parts = [evaluate(part) for part in positions_nm.split(AT_ONCE)]
    energies, forces = zip(*parts, strict=True)
    return torch.cat(energies).detach(), torch.cat(forces).detach()


def make_paths(
    potential: Potential, positions_nm: Tensor, rivals: list[str]
) -> dict[str, Evaluate]:
    beads = positions_nm.shape[1]
    paths: dict[str, Evaluate] = {
        "fast": FastPotential.build(potential).energy_and_forces,
        "plain": lambda x: in_parts(potential.energy_and_forces, x),
    }
    if "torchmd-net" in rivals:
        theirs = torchmd_net(potential, beads)
        paths["torchmd-net"] = lambda x: in_parts(theirs, x)
    if "torch-geometric" in rivals:
        scatter = scatter_schnet(potential, positions_nm[:AT_ONCE])
        paths["torch-geometric"] = lambda x: in_parts(scatter, x)
    return paths


def compare(
    residues: tuple[str, ...], chains: int, seconds: float, rivals: list[str]
) -> dict[str, Any]:
    """Return evaluations a second of each path, what memory they take, and how they agree."""
    potential = make_potential(residues)
    positions_nm = make_chains(chains, len(residues), seed=2)
    paths = make_paths(potential, positions_nm, rivals)
    calls = {name: (lambda path=path: path(positions_nm)) for name, path in paths.items()}
    for path in paths.values():  # what is compiled or started once is not its memory
        path(positions_nm[:1])
    memory = {name: peak_MiB(call) for name, call in calls.items()}
    rates = {name: chains / value for name, value in medians(calls, seconds).items()}
    errors = force_errors(potential, paths, positions_nm[: min(chains, 8)])
    best = max((rates[name] for name in rivals), default=None)
    return {
        "beads": len(residues),
        "chains": chains,
        "evaluations_per_s": rates,
        "ns_per_day": {name: rate * TIME_STEP_PS * 86.4 for name, rate in rates.items()},
        "extra_memory_MiB": memory,
        "force_error": errors,
        "ratio_to_plain": rates["fast"] / rates["plain"],
        "ratio_to_best_rival": rates["fast"] / best if best else None,
    }


def force_errors(
    potential: Potential, paths: dict[str, Evaluate], positions_nm: Tensor
) -> dict[str, float]:
    """Return errors of forces relative to those of the network, and check that energies agree.

    The reference is the plain path in float64, in float32 where float64 takes too much memory.
    """
    (network,) = potential.member_networks()
    whole: nn.Module = potential
    exact_nm = positions_nm
    if positions_nm.shape[1] <= MOST_EXACT_BEADS:
        whole, network = copy.deepcopy(whole).double(), copy.deepcopy(network).double()
        exact_nm = positions_nm.double()
    errors = {}
    scale = energy_and_forces(network, exact_nm)[1].norm()  # those of the priors are far larger
    for reference, names in ((whole, [n for n in paths if n not in RIVALS]), (network, RIVALS)):
        energy, forces = energy_and_forces(reference, exact_nm)
        for name in set(names) & set(paths):
            found, found_forces = paths[name](positions_nm)
            if (found - energy).abs().max() > 1e-3 * energy.abs().max():
                raise ValueError(f"{name} has other energies: {found.tolist()}, {energy.tolist()}")
            errors[name] = ((found_forces - forces).norm() / scale).item()
    return errors


def rate(fast: FastPotential, chains: int, seconds: float) -> float:
    """Return chain evaluations a second."""
    positions_nm = make_chains(chains, 10, seed=3)
    fast.energy_and_forces(positions_nm)
    times = medians({"fast": lambda: fast.energy_and_forces(positions_nm)}, seconds)
    return chains / times["fast"]


def time_update(fast: FastPotential, potential: Potential, seconds: float) -> float:
    """Return the seconds that new weights take."""
    return medians({"update": lambda: fast.update(potential)}, seconds)["update"]


def time_sizes(chains: list[int], threads: int, seconds: float) -> list[dict[str, Any]]:
    """Return evaluations a second of the fast path by size, handedness and threads."""
    rows = []
    for blocks, features in ((3, 128), (2, 64)):
        for handed in (False, True):
            potential = make_potential(CHIGNOLIN, blocks=blocks, features=features, handed=handed)
            fast = FastPotential.build(potential)
            update_s = time_update(fast, potential, seconds)
            row = {"blocks": blocks, "features": features, "handed": handed, "update_s": update_s}
            for count in chains:
                for number in sorted({1, threads}):
                    torch.set_num_threads(number)
                    row[f"{count}_chains_{number}_threads"] = rate(fast, count, seconds)
            rows.append(row)
    return rows


def time_lengths(lengths: list[int], seconds: float) -> dict[int, float]:
    """Return the seconds of an evaluation of one chain by the fast path, by its beads."""
    found = {}
    for beads in lengths:
        residues = tuple(list(THREE_LETTER.values())[n % 20] for n in range(beads))
        fast, chain = FastPotential.build(make_potential(residues)), make_chains(1, beads, seed=2)
        calls = {"fast": lambda fast=fast, chain=chain: fast.energy_and_forces(chain)}
        found[beads] = medians(calls, seconds)["fast"]
    return found


def time_simulation(chains: list[int], device: torch.device, seconds: float) -> dict[str, Any]:
    """Return chain-steps a second of simulations of chignolin, whole steps, of two networks.

    One is that which the rivals are compared with, the other the default one, which sees the twist
    of the chain.
    """
    found: dict[str, Any] = {"device": str(device)}
    for blocks, features, handed in ((3, 128, False), (2, 64, True)):
        potential = make_potential(CHIGNOLIN, blocks=blocks, features=features, handed=handed)
        potential = potential.to(device)
        for count in chains:
            starts = make_chains(count, 10, seed=7).numpy()
            settings = SimulationSettings(
                steps=10**9, save_every=NOISE_BLOCK, recorded=device.type == "cuda"
            )
            saved = Simulation(potential, starts, settings, seed=8).run(ProgressTask())
            next(saved)  # compiles what is compiled
            begin, steps = time.perf_counter(), 0
            while (passed := time.perf_counter() - begin) < seconds or not steps:
                next(saved)
                steps += NOISE_BLOCK
            name = f"{blocks} x {features}{', handed' if handed else ''}, {count} chains"
            found[name] = count * steps / passed
    return found


def drifts(
    steps: int, chains: int = 64, time_step_ps: float = 0.002
) -> dict[str, dict[str, float]]:
    """Return the drift of the total energy of the fast and of the plain path, kJ/mol/ns a chain.

    It is the mean of the slopes of all chains, and its standard error.
    """
    potential = make_potential(CHIGNOLIN)
    fast = FastPotential.build(potential)
    found = {}
    for name, path in (("fast", fast), ("plain", potential)):
        integrator = Baoab(time_step_ps, 0.0, thermal_energy(TEMPERATURE_K), 12.0)
        x = make_chains(chains, 10, seed=5)
        v = integrator.begin(torch.randn(x.shape, generator=torch.Generator().manual_seed(6)))
        energy, f = path.energy_and_forces(x)
        totals = []
        for _ in range(steps):
            x, v = integrator.move(x, v, f, torch.zeros_like(x))
            energy, f = path.energy_and_forces(x)
            v = integrator.kick(v, f)
            totals.append((energy + integrator.kinetic_energy(v)).double().numpy())
        slopes = np.polyfit(np.arange(steps) * time_step_ps * 1e-3, np.stack(totals), 1)[0]
        found[name] = {"mean": slopes.mean(), "error": slopes.std(ddof=1) / len(slopes) ** 0.5}
    return found


def show(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    names = list(rows[0]["evaluations_per_s"])
    heads = ["beads", "chains", *(f"{name} /s" for name in names), "fast ns/day"]
    heads += [*(f"{name} MiB" for name in names), "force error", "to plain", "to best rival"]
    table = Table(*heads, title=title)
    for row in rows:
        numbers = [*row["evaluations_per_s"].values(), row["ns_per_day"]["fast"]]
        numbers += [*row["extra_memory_MiB"].values(), row["force_error"]["fast"]]
        numbers += [row["ratio_to_plain"], row["ratio_to_best_rival"]]
        cells = ["" if value is None else f"{value:,.4g}" for value in numbers]
        table.add_row(str(row["beads"]), str(row["chains"]), *cells)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, nargs="*", default=[1, 16, 256, 4096])
    parser.add_argument("--beads", type=int, nargs="*", default=[35, 73, 224, 1000])
    parser.add_argument(
        "--lengths", type=int, nargs="*", default=[250, 500, 1000, 2000, 4000],
        help="beads of chains that the fast path alone is timed on",
    )  # fmt: skip
    parser.add_argument("--drift-steps", type=int, default=10_000, help="without friction")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each path and size")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="auto", help="of whole steps: cpu, cuda or auto")
    parser.add_argument("--rivals", nargs="*", choices=[*RIVALS, "none"], default=list(RIVALS))
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    arguments = parser.parse_args()
    console = Console(width=200)
    rivals = [name for name in arguments.rivals if name != "none"]
    if "torchmd-net" in rivals and find_spec("torchmdnet") is None:
        console.print("torchmd-net is not installed (pip install torchmd-net==3.1.0): left out")
        rivals.remove("torchmd-net")
    versions = {name: metadata.version(name.replace("-", "_")) for name in rivals}
    console.print("rivals:", ", ".join(f"{name} {number}" for name, number in versions.items()))
    torch.set_num_threads(arguments.threads)
    residues = list(THREE_LETTER.values())
    proteins = [tuple(residues[n % 20] for n in range(beads)) for beads in arguments.beads]
    chignolin = [compare(CHIGNOLIN, n, arguments.seconds, rivals) for n in arguments.chains]
    show(console, "chignolin, 3 blocks of 128", chignolin)
    large = [compare(protein, 1, arguments.seconds, rivals) for protein in proteins]
    show(console, "one chain of a protein, 3 blocks of 128", large)
    result = {
        "threads": arguments.threads,
        "rivals": versions,
        "ratio_to_best_rival": {
            str(row["chains"]): row["ratio_to_best_rival"] for row in chignolin
        },
        "chignolin": chignolin,
        "proteins": large,
        "chain_steps_per_s": time_simulation(
            arguments.chains, choose_device(arguments.device), arguments.seconds
        ),
        "training": time_training(arguments.seconds, rivals),
        "committee_of_4_s_per_step": time_committee(4, [4, 64, 256], arguments.seconds),
        "s_by_beads": time_lengths(arguments.lengths, arguments.seconds),
        "drift_kJ_per_mol_ns": drifts(arguments.drift_steps),
        "sizes": time_sizes([256, 512], arguments.threads, arguments.seconds / 5),
    }
    for name in (
        "chain_steps_per_s",
        "training",
        "committee_of_4_s_per_step",
        "s_by_beads",
        "drift_kJ_per_mol_ns",
    ):
        console.print(f"{name}: {json.dumps(result[name])}")
    for row in result["sizes"]:
        console.print(", ".join(f"{name} {value:,.4g}" for name, value in row.items()))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
