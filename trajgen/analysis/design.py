"""Sequence recovery of designed residues, beside what a blind guess recovers.

Recovery is the share of designed positions with the residue of the target, mean over designs, as in
MDGen (Jing et al. 2024, NeurIPS).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trajgen.analysis.measures import Measure
from trajgen.errors import InputError
from trajgen.residues import THREE_LETTER, parse_sequence
from trajgen.seeding import derive_seed, numpy_generator

#: Bootstrap resamples of the designs.
RESAMPLES = 1000


@dataclass(frozen=True)
class Recovery:
    """How often designs have the residues of the target.

    Attributes:
        overall: share of right residues over all designed positions.
        positions: the same for each position, labelled by residue and number counted from 1.
        random: recovery expected of residues drawn from the baseline composition.
        most_frequent: recovery of the most frequent residue of that composition at each position.
        n_designs: number of designs.
        n_distinct: number of different residues at the designed positions among the designs; of
            one alone the interval says nothing.
    """

    overall: Measure
    positions: tuple[Measure, ...]
    random: float
    most_frequent: float
    n_designs: int
    n_distinct: int


def composition_of(sequences: Sequence[str]) -> dict[str, float]:
    """Return the share of each residue in sequences, a baseline composition.

    Raises:
        InputError: there is no sequence, or one has a letter that is no amino acid.
    """
    if not sequences:
        raise InputError("there are no sequences to take a composition of; give one or more")
    for sequence in sequences:
        parse_sequence(sequence)
    counts = Counter("".join(sequences))
    return {letter: counts[letter] / counts.total() for letter in THREE_LETTER}


def sequence_recovery(
    designs: Sequence[str],
    target: str,
    positions: Sequence[int],
    composition: Mapping[str, float],
    seed: int,
) -> Recovery:
    """Measure how often designs have the residues of the target where they were designed.

    The interval is of bootstrap resamples of the designs. Residues that were given, not designed,
    do not count; no design at all is a result with a reason.

    Args:
        designs: one-letter sequences, as long as the target.
        target: one-letter sequence to recover.
        positions: indices of the designed residues, counted from 0.
        composition: share of each residue in the baseline, such as ``composition_of`` gives.
        seed: base of the resamples.

    Raises:
        InputError: a sequence is not of the target's length or has a letter that is no amino acid,
            a position is not in the target or there twice, or the composition is no distribution.
    """
    _require(designs, target, positions, composition)
    wanted = [target[position] for position in positions]
    most_frequent = max(THREE_LETTER, key=lambda letter: composition.get(letter, 0.0))
    chosen = [tuple(design[position] for position in positions) for design in designs]
    right = np.array([[a == b for a, b in zip(row, wanted, strict=True)] for row in chosen])
    right = right.reshape(len(designs), len(positions)).astype(np.float64)
    rows = _resamples(right, seed)
    return Recovery(
        overall=_measure("mean over positions", rows.mean(axis=1), len(designs)),
        positions=tuple(
            _measure(f"{letter}{position + 1}", column, len(designs))
            for letter, position, column in zip(wanted, positions, rows.T, strict=True)
        ),
        random=float(np.mean([composition.get(letter, 0.0) for letter in wanted])),
        most_frequent=float(np.mean([letter == most_frequent for letter in wanted])),
        n_designs=len(designs),
        n_distinct=len(set(chosen)),
    )


def _resamples(
    right: Float[np.ndarray, "designs positions"], seed: int
) -> Float[np.ndarray, "rows positions"]:
    """Return the recovery of all designs, then of their resamples; no row without a design."""
    n = len(right)
    if n == 0:
        return np.empty((0, right.shape[1]))
    generator = numpy_generator(derive_seed(seed, "bootstrap"))
    # Designs with the same residues right are one kind, of which a resample draws a number.
    kinds, counts = np.unique(right, axis=0, return_counts=True)
    drawn = generator.multinomial(n, counts / n, size=RESAMPLES)
    return np.concatenate([counts[None], drawn]) @ kinds / n


def _measure(label: str, rows: Float[np.ndarray, " rows"], n_designs: int) -> Measure:
    if n_designs == 0:
        return Measure(label, "share", None, reason="there is no design")
    if n_designs == 1:
        reason = "a single design gives no interval"
        return Measure(label, "share", float(rows[0]), reason=reason)
    low, high = np.quantile(rows[1:], [0.025, 0.975])
    return Measure(label, "share", float(rows[0]), float(low), float(high))


def _require(
    designs: Sequence[str],
    target: str,
    positions: Sequence[int],
    composition: Mapping[str, float],
) -> None:
    for sequence in {target, *designs}:
        parse_sequence(sequence)
        if len(sequence) != len(target):
            raise InputError(
                f"design '{sequence}' has {len(sequence)} residues, the target '{target}' has "
                f"{len(target)}; wanted are designs of its length"
            )
    inside = all(0 <= position < len(target) for position in positions)
    if not positions or not inside or len(set(positions)) < len(positions):
        raise InputError(
            f"positions are {list(positions)}; wanted are one or more different ones from 0 to "
            f"{len(target) - 1}"
        )
    unknown = sorted(set(composition) - set(THREE_LETTER))
    shares = list(composition.values())
    if unknown or min(shares, default=-1.0) < 0 or not np.isclose(sum(shares), 1, atol=1e-6):
        raise InputError(
            f"composition has shares that sum to {sum(shares):g} and the unknown letters "
            f"{', '.join(unknown) or 'none'}; wanted are shares of one-letter residues that sum "
            "to 1"
        )
