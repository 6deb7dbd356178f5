"""Steps of force matching: of one network beside a rival, and of a committee in two ways."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from potential_speed.molecules import CHIGNOLIN, make_chains, make_potential
from potential_speed.rivals import torchmd_net
from potential_speed.timing import medians
from trajgen.data.topology import BeadTopology
from trajgen.potential.committee import Committee
from trajgen.potential.energy import energy_and_forces

BATCH = 256


def step_of(model: nn.Module, forces: Callable[[], Tensor], labels: Tensor) -> Callable[[], None]:
    """Return a step of the optimizer on the squared error of forces."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        (forces() - labels).square().mean().backward()
        optimizer.step()

    return step


def time_training(seconds: float, rivals: list[str]) -> dict[str, Any]:
    """Return seconds of a step of force matching: batch 256, three blocks of 128."""
    potential = make_potential(CHIGNOLIN).requires_grad_(True)
    (ours,) = potential.member_networks()
    positions_nm, labels = make_chains(BATCH, 10, seed=4), torch.randn(BATCH, 10, 3)

    def our_forces() -> Tensor:
        # As in training: filters come from tables, which gradients pass through.
        return energy_and_forces(partial(ours, tabulated=True), positions_nm, create_graph=True)[1]

    steps = {"ours": step_of(ours, our_forces, labels)}
    if "torchmd-net" in rivals:
        theirs = torchmd_net(potential, 10)
        model = theirs.model.train().requires_grad_(True)
        steps["torchmd-net"] = step_of(model, lambda: theirs(positions_nm)[1], labels)
    for step in steps.values():
        step()
    times = medians(steps, seconds)
    ratio = times["torchmd-net"] / times["ours"] if "torchmd-net" in times else None
    return {"seconds_per_step": times, "ratio_to_torchmd_net": ratio}


def time_committee(members: int, frames: list[int], seconds: float) -> dict[str, dict[str, float]]:
    """Return seconds of a step of a committee by frames a member: default network, chignolin.

    Members take turns with filters from tables, or without, or are one computation batched over
    members, whose filters are computed for each pair.
    """
    settings = make_potential(CHIGNOLIN, blocks=2, features=64, handed=True).settings
    found = {}
    for count in frames:
        committee = Committee(
            BeadTopology.from_dict(settings.topology), settings.network, 1.0, members, seed=1
        )
        positions_nm = make_chains(members * count, 10, seed=4).reshape(members, count, 10, 3)
        labels = torch.randn(positions_nm.shape)
        ways = {
            "in turn, tables": partial(committee.in_turn, tabulated=True),
            "in turn": partial(committee.in_turn, tabulated=False),
            "batched": committee.batched,
        }
        steps = {
            name: step_of(committee, partial(_forces, energy, positions_nm), labels)
            for name, energy in ways.items()
        }
        found[f"{count} frames"] = medians(steps, seconds)
    return found


def _forces(energy: Callable[[Tensor], Tensor], positions_nm: Tensor) -> Tensor:
    return energy_and_forces(energy, positions_nm, create_graph=True)[1]
