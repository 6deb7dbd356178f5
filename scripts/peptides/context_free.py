"""Torsions of a peptide as training shows them of its residues: what ignores context reaches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from peptides.forward import TORSIONS, distance_numbers
from peptides.places import place_of
from trajgen.analysis.ensemble import Comparison, jensen_shannon_distances
from trajgen.analysis.evaluate import TIME_BLOCKS, Reference
from trajgen.analysis.resampling import resampled_against, segment_blocks
from trajgen.analysis.torsions import torsion_angles
from trajgen.data.records import AtomFrames
from trajgen.data.topology import AtomTopology
from trajgen.data.torsions import find_backbone, find_side_chains
from trajgen.errors import InputError
from trajgen.seeding import derive_seed, numpy_generator

FINDERS = {"backbone": find_backbone, "side_chain": find_side_chains}


@dataclass(frozen=True)
class Term:
    """What is said of a torsion without its neighbours.

    Attributes:
        torsion: its name, such as ``phi``.
        residue: one letter.
        place: ``first``, ``inner`` or ``last``.
    """

    torsion: str
    residue: str
    place: str


#: A term of a training peptide, and its angles, rad.
Shown = tuple[Term, Float[np.ndarray, " frames"]]


def terms_of(name: str, topology: AtomTopology, kind: str) -> list[Term]:
    """Return the torsions of a kind in the order of the columns of that feature."""
    places = ((found.name, found.residues[0]) for found in FINDERS[kind](topology))
    return [Term(torsion, name[at], place_of(at, len(name))) for torsion, at in places]


def shown_torsions(name: str, frames: AtomFrames) -> list[Shown]:
    """Return all torsions of dynamics of a training peptide."""
    shown: list[Shown] = []
    for kind, find in FINDERS.items():
        angles = torsion_angles(frames, find(frames.topology))
        shown += zip(terms_of(name, frames.topology, kind), angles.T, strict=True)
    return shown


def pool_for(term: Term, shown: Sequence[Shown]) -> tuple[Float[np.ndarray, " angles"], bool]:
    """Return the angles, rad, that training shows of a torsion, and whether of its residue there.

    Where there are none, they are those of the residue at other places, then those of other
    residues at the place.

    Raises:
        InputError: no training peptide has such a torsion.
    """
    alike = [(other, angles) for other, angles in shown if other.torsion == term.torsion]
    pools = (
        [angles for other, angles in alike if other == term],
        [angles for other, angles in alike if other.residue == term.residue],
        [angles for other, angles in alike if other.place == term.place],
    )
    found = next((pool for pool in pools if pool), None)
    if found is None:
        raise InputError(
            f"no peptide of --train has {term.torsion} of {term.residue}, or of another residue "
            f"that is {term.place}; choose others"
        )
    return np.concatenate(found), found is pools[0]


def context_free_scores(
    name: str, reference: Reference, shown: Sequence[Shown], seed: int
) -> dict[str, Any]:
    """Return the distances of torsions that are drawn one by one, as many as the reference has.

    Args:
        name: the peptide that the reference is of.
        reference: what judges.
        shown: the torsions of the training peptides.
        seed: base of the draws.
    """
    table, drawn, elsewhere = reference.table, {}, 0
    for kind in FINDERS:
        terms, columns = terms_of(name, table.topology, kind), []
        for number, term in enumerate(terms):
            pool, of_place = pool_for(term, shown)
            generator = numpy_generator(derive_seed(seed, kind, index=number))
            again = len(pool) < table.n_frames
            columns.append(generator.choice(pool, table.n_frames, replace=again))
            elsewhere += not of_place
        values = np.stack(columns, axis=1) if columns else np.zeros((table.n_frames, 0))
        drawn[kind] = replace(table.features[kind], values=values)
    mine = replace(
        table,
        features=drawn,
        tics=None,
        weights=np.ones(table.n_frames),
        blocks=segment_blocks(np.zeros(table.n_frames, dtype=np.int64), TIME_BLOCKS),
    )
    theirs = replace(table, features={kind: table.features[kind] for kind in drawn}, tics=None)
    against = resampled_against(
        mine.weights, mine.blocks, theirs.weights,
        reference.settings.bootstrap_resamples, reference.seed,
    )  # fmt: skip
    pair = Comparison(mine, theirs, against, reference.halves, "torsions are drawn one by one")
    return {
        "frames": table.n_frames,
        **distance_numbers(jensen_shannon_distances(pair), TORSIONS),
        "torsions_of_other_places": elsewhere,
    }
