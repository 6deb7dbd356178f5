"""The weights of networks as arrays, with layers multiplied together where nothing lies between.

Between two activations a CGSchNet is linear, so the features of the beads need not be kept: with
the outputs t₀ of the twist and t_b = tanh(L₂ m_b) of the blocks, whatever reads the features reads

    L h_b = L (h₀ + Σ_{b' ≤ b} L₃ t_b') = constant of the bead + Σ_{b' ≤ b} (L L₃) t_b',

one product of a matrix with all t so far. This holds for the sources L₁ of each block and for the
head. The number of such matrices grows with the square of the blocks, and is smaller than the
number of layers for up to three of them.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from trajgen.potential.fast.filter_tables import tabulate_filters
from trajgen.potential.schnet import CGSchNet, Interaction


class NetworkArrays(NamedTuple):
    """All that compiled code needs of the networks of a committee; ``outputs`` is t₀, t₁, ....

    Attributes:
        tables: filters and slopes on the knots.
        sources: constant part of the sources of each block.
        mixing: matrices from the outputs to the sources; a block reads those before it, its first
            rows.
        updates: L₂ of each block.
        update_biases: bias of L₂.
        head_constants: constant part of the head's hidden layer.
        head: matrix from the outputs to it.
        readout: the last layer times the scale of the energy over the number of networks, kJ/mol.
        twist: first layer of the twist, without rows where the networks have none.
        twist_bias: its bias.
    """

    tables: Float32[np.ndarray, "networks blocks knots 2*width"]
    sources: Float32[np.ndarray, "networks blocks beads width"]
    mixing: Float32[np.ndarray, "networks blocks outputs width"]
    updates: Float32[np.ndarray, "networks blocks width width"]
    update_biases: Float32[np.ndarray, "networks blocks width"]
    head_constants: Float32[np.ndarray, "networks beads hidden"]
    head: Float32[np.ndarray, "networks outputs hidden"]
    readout: Float32[np.ndarray, "networks hidden"]
    twist: Float32[np.ndarray, "networks numbers width"]
    twist_bias: Float32[np.ndarray, "networks width"]


#: Dimensions of the arrays.
_RANKS = (4, 4, 4, 4, 3, 3, 3, 2, 3, 2)


def network_arrays(networks: list[CGSchNet]) -> NetworkArrays:
    """Return the arrays of networks of one shape whose mean counts; there may be none."""
    if not networks:
        return NetworkArrays(*(np.zeros((0,) * rank, np.float32) for rank in _RANKS))
    parts = [_arrays(network, len(networks)) for network in networks]
    return NetworkArrays(*(np.stack(arrays) for arrays in zip(*parts, strict=True)))


def _arrays(network: CGSchNet, committee: int) -> list[np.ndarray]:
    blocks = [block for block in network.blocks if isinstance(block, Interaction)]
    width = len(network.embedding[0])
    features = _weight(network.embedding)[network.types.cpu()]
    steps = []
    first = torch.zeros(0, width), torch.zeros(width)
    if network.twist is not None:
        features = features + _weight(network.twist.outer.bias)
        steps.append(_matrix(network.twist.outer))
        first = _matrix(network.twist.inner), _weight(network.twist.inner.bias)
    outputs = (len(blocks) + len(steps)) * width
    sources, mixing = [], []
    for block in blocks:
        source = _matrix(block.source)
        sources.append(features @ source)
        rows = torch.zeros(outputs, width, dtype=torch.float64)
        if steps:
            rows[: len(steps) * width] = torch.cat(steps) @ source
        mixing.append(rows)
        features = features + _weight(block.target_out.bias)
        steps.append(_matrix(block.target_out))
    head = _matrix(network.head_in)
    tensors = [
        tabulate_filters(network).flatten(2),
        torch.stack(sources),
        torch.stack(mixing),
        torch.stack([_matrix(block.target_in) for block in blocks]),
        torch.stack([_weight(block.target_in.bias) for block in blocks]),
        features @ head + _weight(network.head_in.bias),
        torch.cat(steps) @ head,
        _weight(network.head_out.weight)[0] * (network.energy_scale / committee),
        *first,
    ]
    return [tensor.float().contiguous().numpy() for tensor in tensors]


def _weight(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float64)


def _matrix(layer: nn.Linear) -> Tensor:
    """Return the matrix that rows of inputs are multiplied with."""
    return _weight(layer.weight).T
