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
import ctypes
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from trajgen.data.topology import BeadTopology
from trajgen.device import choose_device
from trajgen.potential.dynamics.integrators import Baoab
from trajgen.potential.dynamics.noise import NOISE_BLOCK
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulation import Simulation
from trajgen.potential.energy import energy_and_forces
from trajgen.potential.fast.fast_potential import FastPotential
from trajgen.potential.potential import Potential, PotentialSettings
from trajgen.potential.priors import PriorSettings
from trajgen.potential.schnet import NetworkSettings, cosine_cutoff
from trajgen.progress import ProgressTask
from trajgen.residues import N_BEAD_TYPES, THREE_LETTER, parse_sequence
from trajgen.units import thermal_energy

TEMPERATURE_K = 350.0
TIME_STEP_PS = 0.004
CHIGNOLIN = parse_sequence("YYDPETGTWY")
#: Most chains that a path without blocks of its own is given at once, to bound its memory.
AT_ONCE = 256
#: Up to this size errors are measured against float64; beyond, all pairs take too much memory.
MOST_EXACT_BEADS = 256
RIVALS = ("torchmd-net", "torch-geometric")

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


def make_potential(residues: tuple[str, ...], **sizes: Any) -> Potential:
    """Return a potential with plausible priors and random weights, in float32.

    It sees distances alone where nothing else is said, as the rivals do.
    """
    settings = PotentialSettings(
        temperature_K=TEMPERATURE_K,
        priors=PriorSettings(),
        network=NetworkSettings(**{"blocks": 3, "features": 128, "handed": False, **sizes}),
        topology=BeadTopology.from_residues(residues).to_dict(),
    )
    potential = Potential(settings, seed=1)
    priors, kT = potential.priors, thermal_energy(TEMPERATURE_K)
    priors.bond.stiffness += 2e4
    priors.bond.length_nm += 0.38
    priors.angle.stiffness += 10 * kT
    priors.dihedral.amplitude += kT
    priors.repulsion.strength += kT
    priors.repulsion.sigma_nm += 0.4
    return potential.float().requires_grad_(False)


def make_chains(chains: int, beads: int, seed: int) -> Tensor:
    """Return helices up to 10 beads, else compact rows of beads as dense as a protein, nm."""
    number = np.arange(beads)
    if beads <= 10:
        turn = 1.75 * number
        chain = np.stack([0.23 * np.cos(turn), 0.23 * np.sin(turn), 0.15 * number], axis=1)
    else:
        side = round((beads * 0.38 / 0.6) ** (1 / 3) * 0.6 / 0.38)
        row, along = np.divmod(number, side)
        layer, across = np.divmod(row, max(round(side * 0.38 / 0.6), 1))
        back = row % 2 == 1
        chain = np.stack(
            [0.6 * layer, 0.6 * across, 0.38 * np.where(back, side - 1 - along, along)]
        )
        chain = chain.T
    shake = np.random.default_rng(seed).normal(scale=0.01, size=(chains, beads, 3))
    return torch.from_numpy((chain + shake).astype(np.float32))


def torchmd_net(potential: Potential, beads: int) -> Evaluate:
    """Return torchmd-net's graph network with the weights of a potential's network."""
    from torchmdnet.models.model import create_model

    (ours,) = potential.member_networks()
    size = potential.settings.network
    model = create_model(
        {
            "model": "graph-network", "embedding_dimension": size.features, "aggr": "add",
            "num_layers": size.blocks, "num_rbf": size.radial_functions, "rbf_type": "expnorm",
            "trainable_rbf": True, "activation": "tanh", "neighbor_embedding": False,
            "cutoff_lower": size.cutoff_lower_nm, "cutoff_upper": size.cutoff_nm,
            "max_z": N_BEAD_TYPES, "max_num_neighbors": min(beads - 1, 128), "atom_filter": -1,
            "prior_model": None, "output_model": "Scalar", "reduce_op": "sum",
            "derivative": True, "precision": 32,
        },
        std=torch.tensor(ours.energy_scale),
    )  # fmt: skip
    theirs, head = model.representation_model, model.output_model.output_network.layers
    pairs = [
        (theirs.embedding.weight, ours.embedding),
        (theirs.distance_expansion.means, ours.basis.centres),
        (theirs.distance_expansion.betas, ours.basis.sharpness),
    ]
    layers = [(head[0], ours.head_in), (head[-1], ours.head_out)]
    for block, own in zip(theirs.interactions, ours.blocks, strict=True):
        layers += [(block.mlp[0], own.filter_in), (block.mlp[2], own.filter_out)]
        layers += [(block.conv.lin1, own.source), (block.conv.lin2, own.target_in)]
        layers += [(block.lin, own.target_out)]
    with torch.no_grad():
        head[-1].bias.zero_()
        for layer, own in layers:
            pairs += [(getattr(layer, name), value) for name, value in own.named_parameters()]
        for weight, value in pairs:
            weight.copy_(value)

    def evaluate(positions_nm: Tensor) -> tuple[Tensor, Tensor]:
        chains = len(positions_nm)
        batch = torch.arange(chains).repeat_interleave(beads)
        moving = positions_nm.detach().reshape(-1, 3)
        energy, forces = model(ours.types.repeat(chains), moving, batch)
        return energy[:, 0], forces.reshape(positions_nm.shape)

    model.eval().requires_grad_(False)
    evaluate.model = model
    return evaluate


def scatter_schnet(potential: Potential, positions_nm: Tensor) -> Evaluate:
    """Return a SchNet on torch-geometric's message passing; edges are those of ``positions_nm``."""
    from torch_geometric.nn import MessagePassing

    (ours,) = potential.member_networks()
    built, beads = positions_nm.shape[:2]
    apart = torch.cdist(positions_nm, positions_nm) + 10 * torch.eye(beads)
    frame, target, source = torch.nonzero(apart < ours.upper_nm, as_tuple=True)

    class Convolution(MessagePassing):
        def forward(self, x: Tensor, edges: Tensor, filters: Tensor) -> Tensor:
            return self.propagate(edges, x=x, filters=filters)

        def message(self, x_j: Tensor, filters: Tensor) -> Tensor:
            return x_j * filters

    convolution = Convolution(aggr="add")
    edges = torch.stack([source, target]) + beads * frame

    def energy(positions_nm: Tensor) -> Tensor:
        flat = positions_nm.reshape(-1, 3)
        fewer = len(flat) < beads * built
        here = edges[:, edges[1] < len(flat)] if fewer else edges
        distance = (flat[here[0]] - flat[here[1]]).norm(dim=1)
        basis = ours.basis(distance)
        window = cosine_cutoff(distance, ours.lower_nm, ours.upper_nm)[:, None]
        x = ours.embedding[ours.types.repeat(len(positions_nm))]
        for block in ours.blocks:
            filters = block.filter_out(torch.tanh(block.filter_in(basis))) * window
            message = convolution(block.source(x), here, filters)
            x = x + block.target_out(torch.tanh(block.target_in(message)))
        out = ours.head_out(torch.tanh(ours.head_in(x)))
        return ours.energy_scale * out.reshape(len(positions_nm), -1).sum(dim=1)

    return lambda positions_nm: energy_and_forces(energy, positions_nm)


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


def peak_MiB(call: Callable[[], object]) -> float | None:
    """Return by how much the memory of the process rises during a call; None where unknown."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (status.exists() and os.access(reset, os.W_OK)):
        call()
        return None
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls left in the pool is no part of this one
    reset.write_text("5")

    def read(name: str) -> int:
        (line,) = [line for line in status.read_text().splitlines() if line.startswith(name)]
        return int(line.split()[1])

    before = read("VmRSS")
    call()
    return (read("VmHWM") - before) / 1024


def medians(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Time calls for about ``seconds`` each, in three turns; return the medians.

    A turn is many calls of one path, and the first does not count: threads of the path before
    still wait actively for work then, and keep others from theirs.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3):
        for name, call in calls.items():
            call()
            turn: list[float] = []
            while sum(turn) < seconds / 3:
                begin = time.perf_counter()
                call()
                turn.append(time.perf_counter() - begin)
            times[name] += turn
    return {name: statistics.median(values) for name, values in times.items()}


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


def time_simulation(chains: list[int], device: torch.device, seconds: float) -> dict[str, Any]:
    """Return chain-steps a second of simulations of chignolin, whole steps, in sizes of network."""
    found: dict[str, Any] = {"device": str(device)}
    for blocks, features in ((3, 128), (2, 64)):
        potential = make_potential(CHIGNOLIN, blocks=blocks, features=features).to(device)
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
            found[f"{blocks} x {features}, {count} chains"] = count * steps / passed
    return found


def time_training(seconds: float, rivals: list[str]) -> dict[str, Any]:
    """Return seconds of a step of force matching: batch 256, three blocks of 128."""
    potential = make_potential(CHIGNOLIN).requires_grad_(True)
    (ours,) = potential.member_networks()
    positions_nm, labels = make_chains(256, 10, seed=4), torch.randn(256, 10, 3)

    def step_of(model: nn.Module, forces: Callable[[], Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)

        def step() -> None:
            optimizer.zero_grad()
            (forces() - labels).square().mean().backward()
            optimizer.step()

        return step

    def our_forces() -> Tensor:
        # As in training: filters come from tables, which gradients pass through.
        return energy_and_forces(partial(ours, tabulated=True), positions_nm, create_graph=True)[1]

    steps = {"ours": step_of(ours, our_forces)}
    if "torchmd-net" in rivals:
        theirs = torchmd_net(potential, 10)
        model = theirs.model.train().requires_grad_(True)
        steps["torchmd-net"] = step_of(model, lambda: theirs(positions_nm)[1])
    for step in steps.values():
        step()
    times = medians(steps, seconds)
    ratio = times["torchmd-net"] / times["ours"] if "torchmd-net" in times else None
    return {"seconds_per_step": times, "ratio_to_torchmd_net": ratio}


def drifts(chains: int = 8, steps: int = 1000, time_step_ps: float = 0.002) -> dict[str, float]:
    """Return the drift of the total energy of the fast and of the plain path, kJ/mol/ns a chain."""
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
            totals.append((energy + integrator.kinetic_energy(v)).mean().item())
        slope = np.polyfit(np.arange(steps) * time_step_ps * 1e-3, totals, 1)[0]
        found[name] = float(slope)
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
        "drift_kJ_per_mol_ns": drifts(),
        "sizes": time_sizes([256, 512], arguments.threads, arguments.seconds / 5),
    }
    for name in ("chain_steps_per_s", "training", "drift_kJ_per_mol_ns"):
        console.print(f"{name}: {json.dumps(result[name])}")
    for row in result["sizes"]:
        console.print(", ".join(f"{name} {value:,.4g}" for name, value in row.items()))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
