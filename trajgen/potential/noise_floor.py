"""How low the loss can get: the noise of the force labels at fixed beads.

The minimum of the loss over all functions is the mean conditional variance of the labels (Husic et
al., J. Chem. Phys. 153, 194101 (2020)). No validation loss is below it but by chance, and often it
is nearly all of the loss.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from trajgen.data.records import BeadFrames
from trajgen.geometry.superposition import rmsd_matrix, superpose
from trajgen.potential.force_labels import ForceLabels, mean_force_error
from trajgen.seeding import derive_seed, numpy_generator

#: Frames that are paired, at most; the work grows with its square (a few seconds).
PAIRED_FRAMES = 4_000
#: Partners of each frame.
PARTNERS = 4
#: Fewer frames than this say nothing.
MIN_FRAMES = 50


@dataclass(frozen=True)
class NoiseFloor:
    """An estimate of the lowest loss.

    Attributes:
        value: (kJ/mol/nm)², mean over force components; None where it cannot be had.
        standard_error: by how much chance moves what is not noise, and with it this value,
            (kJ/mol/nm)²; None without a value.
        method: ``label variance`` or ``pairs``, None without a value.
        caveat: what to keep in mind of the value, None without one.
        reason: why there is no value, None where there is one.
    """

    value: float | None = None
    standard_error: float | None = None
    method: str | None = None
    caveat: str | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the card."""
        return asdict(self)


def estimate_noise_floor(
    labels: ForceLabels,
    held_out: Int64[np.ndarray, " held_out"],
    frames: BeadFrames,
    seed: int,
) -> NoiseFloor:
    """Estimate the noise of the labels of held-out frames.

    Where the dataset knows the noise variance of each of these labels, it is their weighted mean.

    Elsewhere it comes from pairs of similar frames: each frame with the nearest ones (RMSD) of
    other segments, since noise of one run is correlated in time. Their noise is independent, so the
    mean product of what the priors leave of both labels, one of them turned into the orientation of
    the other, is the mean product of their mean forces; taken off the loss of the priors alone it
    leaves the noise (it is the difference-based estimate of a variance of Rice, Ann. Stat. 12, 1215
    (1984), written as a covariance). Mean forces change from one frame to the other, so the product
    is too low and the floor too high, the more so the farther the partners are apart.

    Args:
        labels: labels of all frames, on the CPU.
        held_out: which of them are held out.
        frames: the frames that the labels were made of.
        seed: draws the frames that are paired where there are many.
    """
    if not len(held_out):
        return NoiseFloor(reason="no frames are held out (training.validation_fraction is 0)")
    variance = frames.force_variance
    if variance is not None and (variance[held_out] > 0).all():
        weighted = labels.weights[torch.from_numpy(held_out)].double().numpy() * variance[held_out]
        caveat = "as good as the variances that came with the labels"
        return NoiseFloor(float(weighted.mean()), 0.0, "label variance", caveat)
    generator = numpy_generator(derive_seed(seed, "noise-floor"))
    picked = labels.take(np.sort(generator.permutation(labels.n_frames)[:PAIRED_FRAMES]))
    segments = frames.segments[picked.frames]
    others = picked.n_frames - np.bincount(np.unique(segments, return_inverse=True)[1])
    if picked.n_frames < MIN_FRAMES:
        return NoiseFloor(reason=f"pairs take {MIN_FRAMES} frames, and {picked.n_frames} are there")
    if others.min() < PARTNERS:
        return NoiseFloor(reason="the frames are of one run, whose noise is correlated in time")
    products, apart_nm = _products_of_partners(picked, segments)
    # A pair whose frames are each other's nearest counts twice, hence the root of two.
    error = float(products.std() * np.sqrt(2 / len(products)))
    return NoiseFloor(
        mean_force_error(None, labels.take(held_out)) - float(products.mean()),
        error,
        "pairs",
        f"partners are {apart_nm:.3f} nm RMSD apart (median); what the mean force changes over "
        "that distance counts as noise",
    )


def _products_of_partners(
    labels: ForceLabels, segments: Int64[np.ndarray, " frames"]
) -> tuple[np.ndarray, float]:
    """Return for each frame the mean product with its partners, and their median RMSD (nm)."""
    run = torch.from_numpy(segments)
    apart = rmsd_matrix(labels.positions_nm, labels.positions_nm)
    apart = torch.where(run[:, None] == run[None], torch.inf, apart)
    nearest_nm, partners = apart.topk(PARTNERS, dim=1, largest=False)
    own = labels.positions_nm[:, None].expand(-1, PARTNERS, -1, -1)
    rotations = superpose(labels.positions_nm[partners], own).rotations
    turned = labels.residual[partners] @ rotations.mT
    products = (labels.residual[:, None] * turned).double().mean(dim=(1, 2, 3))
    return (labels.weights.double() * products).numpy(), float(nearest_nm.median())
