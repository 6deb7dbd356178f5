"""Energies and forces of blocks of chains: forward and backward through the network by hand.

A block is small enough that what it needs stays in the cache of a core. Names: outputs are what
the tanh layers of twist and blocks give (see ``network_arrays``), ``by_x`` is the gradient of the
energy by x.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64, Int64

from trajgen.potential.fast.activation import add_bias_and_tanh, multiply_by_slope
from trajgen.potential.fast.candidates import Candidates
from trajgen.potential.fast.chain_priors import ChainPriors, add_chain_priors
from trajgen.potential.fast.compiling import digest_of_sources, entry, kernel
from trajgen.potential.fast.matrix_product import multiply
from trajgen.potential.fast.messages import (
    add_distance_gradients,
    add_message_gradients,
    add_messages,
)
from trajgen.potential.fast.network_arrays import NetworkArrays
from trajgen.potential.fast.pairs import Grid, Seen, add_pair_forces, meet_pairs, room_for_pairs
from trajgen.potential.fast.twist import add_twist, add_twist_forces


@kernel
def _add_network(
    net: int,
    arrays: NetworkArrays,
    grid: Grid,
    runs: Int64[np.ndarray, "runs 4"],
    sgemm: int,
    x: Float64[np.ndarray, "rows 3"],
    seen: Seen,
    count: int,
    energies: Float64[np.ndarray, " chains"],
    forces: Float64[np.ndarray, "rows 3"],
    outputs: Float32[np.ndarray, "rows outputs"],
    by_outputs: Float32[np.ndarray, "rows outputs"],
    sources: Float32[np.ndarray, "blocks*rows width"],
    messages: Float32[np.ndarray, "rows width"],
    by_messages: Float32[np.ndarray, "rows width"],
    hidden: Float32[np.ndarray, "rows hidden"],
) -> None:
    """Add the energy of one network to a block's chains, and its forces."""
    rows, blocks, width = x.shape[0], arrays.sources.shape[1], arrays.sources.shape[3]
    chains, beads = energies.shape[0], arrays.sources.shape[2]
    per_nm = (grid.knots - 1) / (grid.upper_nm - grid.lower_nm)
    begin = width if arrays.twist.shape[1] > 0 else 0
    numbers = np.zeros((rows if begin > 0 else 0, 8), np.float32)
    if begin > 0:
        for chain in range(chains):
            part = slice(chain * beads, (chain + 1) * beads)
            add_twist(x[part], runs, numbers[part])
        multiply(sgemm, numbers, arrays.twist[net], False, 0.0, outputs[:, :width])
        add_bias_and_tanh(outputs, 0, arrays.twist_bias[net])
    for block in range(blocks):
        end = begin + block * width
        source = sources[block * rows : (block + 1) * rows]
        _repeat(arrays.sources[net, block], source)
        if end > 0:
            mixing = arrays.mixing[net, block, :end]
            multiply(sgemm, outputs[:, :end], mixing, False, 1.0, source)
        _clear(messages)
        add_messages(seen, count, arrays.tables[net, block], source, messages)
        output = outputs[:, end : end + width]
        multiply(sgemm, messages, arrays.updates[net, block], False, 0.0, output)
        add_bias_and_tanh(outputs, end, arrays.update_biases[net, block])
    _repeat(arrays.head_constants[net], hidden)
    multiply(sgemm, outputs, arrays.head[net], False, 1.0, hidden)
    _read_out(hidden, arrays.readout[net], energies)
    multiply(sgemm, hidden, arrays.head[net], True, 0.0, by_outputs)
    for block in range(blocks - 1, -1, -1):
        end = begin + block * width
        multiply_by_slope(outputs, end, width, by_outputs)
        by_update = by_outputs[:, end : end + width]
        multiply(sgemm, by_update, arrays.updates[net, block], True, 0.0, by_messages)
        table, source = arrays.tables[net, block], sources[block * rows : (block + 1) * rows]
        if end == 0:
            add_distance_gradients(seen, count, table, per_nm, source, by_messages)
        else:
            _clear(messages)
            add_message_gradients(seen, count, table, per_nm, source, by_messages, messages)
            mixing = arrays.mixing[net, block, :end]
            multiply(sgemm, messages, mixing, True, 1.0, by_outputs[:, :end])
    if begin > 0:
        multiply_by_slope(outputs, 0, width, by_outputs)
        multiply(sgemm, by_outputs[:, :width], arrays.twist[net], True, 0.0, numbers)
        for chain in range(chains):
            part = slice(chain * beads, (chain + 1) * beads)
            add_twist_forces(x[part], runs, numbers[part], forces[part])


@kernel
def _read_out(
    hidden: Float32[np.ndarray, "rows hidden"],
    readout: Float32[np.ndarray, " hidden"],
    energies: Float64[np.ndarray, " chains"],
) -> None:
    """Add the energy of the head's hidden layer, and put its gradient in the layer's place."""
    add_bias_and_tanh(hidden, 0, np.zeros_like(readout))
    beads = hidden.shape[0] // energies.shape[0]
    for row in range(hidden.shape[0]):
        energy, line = np.float32(0), hidden[row]
        for c in range(line.shape[0]):
            y = line[c]
            energy += readout[c] * y
            line[c] = readout[c] * (np.float32(1) - y * y)
        energies[row // beads] += energy


@kernel
def _repeat(lines: Float32[np.ndarray, "beads width"], rows: np.ndarray) -> None:
    """Set the rows of each chain."""
    for row in range(rows.shape[0]):
        line, copy = lines[row % lines.shape[0]], rows[row]
        for c in range(line.shape[0]):
            copy[c] = line[c]


@kernel
def _clear(rows: Float32[np.ndarray, "rows width"]) -> None:
    for row in range(rows.shape[0]):
        line = rows[row]
        for c in range(line.shape[0]):
            line[c] = 0


@kernel
def _longest(candidates: Candidates) -> int:
    longest = 0
    for frame in range(candidates.bounds.shape[0]):
        longest = max(longest, candidates.bounds[frame, 1] - candidates.bounds[frame, 0])
    return longest


def _compile(digest: int) -> Callable[..., None]:
    @entry
    def evaluate(
        positions_nm: Float32[np.ndarray, "frames beads 3"],
        first_block: int,
        every: int,
        chains_per_block: int,
        arrays: NetworkArrays,
        priors: ChainPriors,
        runs: Int64[np.ndarray, "runs 4"],
        grid: Grid,
        candidates: Candidates,
        sgemm: int,
        energies: Float32[np.ndarray, " frames"],
        forces: Float32[np.ndarray, "frames beads 3"],
    ) -> None:
        """Evaluate every ``every``-th block of chains from ``first_block`` on."""
        _ = digest  # the cache belongs to these sources
        frames, beads = positions_nm.shape[0], positions_nm.shape[1]
        most = min(frames, chains_per_block) * beads
        blocks, width = arrays.sources.shape[1], arrays.sources.shape[3]
        x, f = np.empty((most, 3)), np.empty((most, 3))
        seen = room_for_pairs(min(frames, chains_per_block) * _longest(candidates))
        outputs = np.empty((most, arrays.head.shape[1]), np.float32)
        by_outputs = np.empty_like(outputs)
        sources = np.empty((blocks * most, width), np.float32)
        messages = np.empty((most, width), np.float32)
        by_messages = np.empty_like(messages)
        hidden = np.empty((most, arrays.head.shape[2]), np.float32)
        step = chains_per_block * every
        for begin in range(first_block * chains_per_block, frames, step):
            chains = min(chains_per_block, frames - begin)
            rows = chains * beads
            energy = np.zeros(chains)
            x[:rows] = positions_nm[begin : begin + chains].reshape(rows, 3)
            f[:rows] = 0
            count = 0
            for chain in range(chains):
                part = slice(chain * beads, (chain + 1) * beads)
                first, last = candidates.bounds[begin + chain]
                pairs = candidates.pairs[first:last]
                strengths = candidates.strengths[first:last]
                count, energy[chain] = meet_pairs(
                    x, chain * beads, pairs, strengths, grid, seen, count, f
                )
                energy[chain] += add_chain_priors(x[part], priors, f[part])
            for net in range(arrays.tables.shape[0]):
                _add_network(
                    net, arrays, grid, runs, sgemm, x[:rows], seen, count, energy, f[:rows],
                    outputs[:rows], by_outputs[:rows], sources[: blocks * rows], messages[:rows],
                    by_messages[:rows], hidden[:rows],
                )  # fmt: skip
            add_pair_forces(seen, count, f)
            for chain in range(chains):
                finite = np.isfinite(x[chain * beads : (chain + 1) * beads]).all()
                energies[begin + chain] = energy[chain] if finite else np.nan
                for bead in range(beads):
                    for axis in range(3):
                        force = f[chain * beads + bead, axis]
                        forces[begin + chain, bead, axis] = force if finite else np.nan

    return evaluate


#: Compiled at its first call; releases the interpreter's lock.
evaluate = _compile(digest_of_sources())
