"""From candidates to chosen frames: filters, scores, picks; every rejected frame is counted."""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64

from al.outcomes import Rejection
from al.selection.scores import nearest_rmsd_nm, score_candidates
from al.selection.settings import SelectionSettings
from trajgen.data.records import BeadFrames
from trajgen.geometry.superposition import rmsd_matrix
from trajgen.geometry.validity import ChainLimits, check_chain
from trajgen.seeding import derive_seed, numpy_generator


@dataclass(frozen=True)
class Picked:
    """Frames chosen from candidates.

    Attributes:
        chosen: candidate indices, in the order of choosing.
        scores: score of each chosen candidate.
        rejected: number of the other candidates by reason.
    """

    chosen: Int64[np.ndarray, " chosen"]
    scores: Float[np.ndarray, " chosen"]
    rejected: dict[str, int]


def select_frames(
    candidates: BeadFrames,
    sources: Int64[np.ndarray, " frames"],
    known: BeadFrames,
    settings: SelectionSettings,
    seed: int,
) -> Picked:
    """Choose the frames that the dataset covers least, by the rule of the settings.

    Args:
        candidates: proposals of the generators.
        sources: generator of each candidate; thinning keeps the same number of each.
        known: the dataset.
        settings: rule, cutoffs and counts.
        seed: a derived seed of this round.
    """
    reasons: Counter[Rejection] = Counter()
    index = _thin(sources, settings.max_candidates, derive_seed(seed, "thin"))
    reasons[Rejection.THINNED] += candidates.n_frames - len(index)

    labels = classify(candidates.positions_nm[index], known, settings)
    reasons.update(label for label in labels if label is not None)
    index = index[np.array([label is None for label in labels], dtype=bool)]
    if len(index) == 0:
        return Picked(index, np.zeros(0), _counted(reasons))

    nearest, _ = nearest_rmsd_nm(candidates.positions_nm[index], known.positions_nm)
    near = nearest <= settings.max_rmsd_nm
    reasons[Rejection.BEYOND_CUTOFF] += int((~near).sum())
    index, nearest = index[near], nearest[near]
    if len(index) == 0:
        return Picked(index, np.zeros(0), _counted(reasons))

    positions = candidates.positions_nm[index]
    scores = score_candidates(
        settings.rule, positions, nearest, known, settings.bins, derive_seed(seed, "score")
    )
    turns = sources[index] if settings.share_picks else np.zeros(len(index), dtype=np.int64)
    picks, duplicates = pick_diverse(
        positions, scores, turns, settings.picks, settings.duplicate_nm
    )
    reasons[Rejection.DUPLICATE] += duplicates
    reasons[Rejection.NOT_PICKED] += len(index) - len(picks) - duplicates
    return Picked(index[picks], scores[picks], _counted(reasons))


def classify(
    positions_nm: Float32[np.ndarray, "frames beads 3"],
    known: BeadFrames,
    settings: SelectionSettings,
) -> list[Rejection | None]:
    """Return for each frame why it is no possible conformation, or None."""
    bonds = torch.tensor(known.topology.bonds, dtype=torch.int64).reshape(-1, 2)
    report = check_chain(torch.from_numpy(positions_nm), ChainLimits(), bonds)
    smallest = settings.min_rg_ratio * radius_of_gyration(known.positions_nm).min()
    imploded = radius_of_gyration(positions_nm) < smallest
    checks: list[tuple[Rejection, Bool[np.ndarray, " frames"]]] = [
        (Rejection.NOT_FINITE, ~report.finite.numpy()),
        (Rejection.EXPLODED, ~report.not_exploded.numpy()),
        (Rejection.BROKEN_BOND, ~report.bonds_ok.numpy()),
        (Rejection.BROKEN_BOND, bonds_out_of_range(positions_nm, known, settings.bond_margin_nm)),
        (Rejection.IMPLODED, imploded),
        (Rejection.CLASH, ~report.no_clash.numpy()),
    ]
    labels: list[Rejection | None] = [None] * len(positions_nm)
    for reason, failed in reversed(checks):  # the first check that fails gives the label
        for frame in np.flatnonzero(failed):
            labels[frame] = reason
    return labels


def bonds_out_of_range(
    positions_nm: Float32[np.ndarray, "frames beads 3"], known: BeadFrames, margin_nm: float
) -> Bool[np.ndarray, " frames"]:
    """Say for each frame whether a bond lies outside its range in the dataset, with a margin."""
    bonds = np.array(known.topology.bonds, dtype=np.int64).reshape(-1, 2)

    def lengths(positions: np.ndarray) -> np.ndarray:
        return np.linalg.norm(positions[:, bonds[:, 0]] - positions[:, bonds[:, 1]], axis=-1)

    seen, asked = lengths(known.positions_nm), lengths(positions_nm)
    low, high = seen.min(axis=0) - margin_nm, seen.max(axis=0) + margin_nm
    return ((asked < low) | (asked > high)).any(axis=1)


def radius_of_gyration(
    positions_nm: Float32[np.ndarray, "frames beads 3"],
) -> Float[np.ndarray, " frames"]:
    """Return the root mean square distance of the beads from their centre, nm."""
    centred = positions_nm - positions_nm.mean(axis=1, keepdims=True)
    return np.sqrt((centred**2).sum(axis=2).mean(axis=1))


def pick_diverse(
    positions_nm: Float32[np.ndarray, "frames beads 3"],
    scores: Float[np.ndarray, " frames"],
    sources: Int64[np.ndarray, " frames"],
    picks: int,
    duplicate_nm: float,
) -> tuple[Int64[np.ndarray, " chosen"], int]:
    """Take frames by falling score, a source after the other, and pass over near-duplicates.

    A source that has none left gives its turn to the others.

    Returns:
        The indices taken, in the order of taking, and how many frames were passed over because
        they lie near one already taken.
    """
    order = np.argsort(-scores, kind="stable")
    queues = [deque(order[sources[order] == source].tolist()) for source in np.unique(sources)]
    positions = torch.from_numpy(positions_nm)
    nearest_taken = np.full(len(positions_nm), np.inf)
    taken: list[int] = []
    duplicates = 0
    while len(taken) < picks and queues:
        queue = queues.pop(0)
        while queue and nearest_taken[queue[0]] < duplicate_nm:
            queue.popleft()
            duplicates += 1
        if not queue:
            continue
        frame = queue.popleft()
        taken.append(frame)
        to_frame = rmsd_matrix(positions, positions[frame][None])[:, 0].numpy()
        nearest_taken = np.minimum(nearest_taken, to_frame)
        queues.append(queue)
    return np.array(taken, dtype=np.int64), duplicates


def _thin(sources: Int64[np.ndarray, " frames"], most: int, seed: int) -> Int64[np.ndarray, " n"]:
    if len(sources) <= most:
        return np.arange(len(sources))
    generator = numpy_generator(seed)
    ids = np.unique(sources)
    kept = [
        generator.permutation(np.flatnonzero(sources == source))[: most // len(ids)]
        for source in ids
    ]
    return np.sort(np.concatenate(kept))


def _counted(reasons: Counter[Rejection]) -> dict[str, int]:
    return {str(reason): reasons[reason] for reason in Rejection if reasons[reason]}
