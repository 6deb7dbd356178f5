"""Other codes' way to the energies and forces of the same network."""

from collections.abc import Callable

import torch
from torch import Tensor

from trajgen.potential.energy import energy_and_forces
from trajgen.potential.potential import Potential
from trajgen.potential.schnet import cosine_cutoff
from trajgen.residues import N_BEAD_TYPES

RIVALS = ("torchmd-net", "torch-geometric")

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


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
