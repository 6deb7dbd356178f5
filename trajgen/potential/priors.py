"""Prior energies: the chain itself and its excluded volume, closed forms with plain parameters.

The network learns what the priors leave over. They keep the chain intact where there are no data,
and the dihedral term is the only one of them that tells a structure from its mirror image, since
all others see distances and angles only. Parameters are buffers: they are fitted by
``trajgen.potential.prior_fit``, never by gradient descent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from trajgen.data.topology import BeadTopology
from trajgen.geometry.internal import angles, dihedrals, distances
from trajgen.settings import Settings

#: The Fourier terms of a dihedral have the orders n = 1, 2.
N_DIHEDRAL_ORDERS = 2
#: Bond angles whose sine has a smaller square than this, those beyond 153 degrees, damp dihedrals.
DAMPED_SINE_SQUARE = 0.2
#: Pairs do not repel from here on, where ε (σ/r)⁶ is 0.001 kT at most for the σ that are fitted:
#: so the pairs of a large molecule grow with its beads, not with their square.
REPULSION_RANGE_NM = 2.0
#: Coincident beads have no angle: no product of squared bond lengths is smaller, nm⁴.
SMALLEST_SQUARE = 1e-24


class PriorSettings(Settings):
    """Choices of the prior.

    Attributes:
        excluded_neighbours: pairs up to this many bonds apart do not repel; 2 leaves out what the
            bond and the angle terms hold already.
        dihedral_shrinkage: pull of each dihedral's Fourier coefficients (in kT) towards those of
            all dihedrals together, and of these towards zero; see ``prior_fit.fit_dihedrals``.
        min_effective_frames: fewer (weighted) frames than this make a term fall back to its
            default.
    """

    excluded_neighbours: int = Field(default=2, ge=1)
    dihedral_shrinkage: float = Field(default=0.05, ge=0)
    min_effective_frames: float = Field(default=20.0, ge=2)


@dataclass(frozen=True)
class TermIndices:
    """Which beads each prior term acts on.

    Attributes:
        pairs: bonds.
        triples: angles, the middle bead in the middle.
        quadruples: dihedrals along three bonds.
        repelling: pairs that repel.
    """

    pairs: Int[Tensor, "bonds 2"]
    triples: Int[Tensor, "angles 3"]
    quadruples: Int[Tensor, "dihedrals 4"]
    repelling: Int[Tensor, "repelling 2"]


def find_terms(topology: BeadTopology, excluded_neighbours: int) -> TermIndices:
    """Return the bonds, angles, dihedrals and repelling pairs of a molecule."""
    n = topology.n_beads
    neighbours: list[list[int]] = [[] for _ in range(n)]
    for i, j in topology.bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    triples = [(i, j, k) for j in range(n) for i in neighbours[j] for k in neighbours[j] if i < k]
    quadruples = [
        (i, j, k, m)
        for j, k in sorted(topology.bonds)
        for i in neighbours[j]
        for m in neighbours[k]
        if len({i, j, k, m}) == 4
    ]
    repelling = []
    for i in range(n):
        near = _reached(neighbours, i, excluded_neighbours)
        repelling += [(i, j) for j in range(i + 1, n) if j not in near]
    return TermIndices(
        pairs=_index(sorted(topology.bonds), 2),
        triples=_index(triples, 3),
        quadruples=_index(quadruples, 4),
        repelling=_index(repelling, 2),
    )


def harmonic_energy(
    values: Float[Tensor, "frames terms"],
    stiffness: Float[Tensor, " terms"],
    centre: Float[Tensor, " terms"],
) -> Float[Tensor, " frames"]:
    """Return Σ ½ k (x - x₀)²; with the factor ½, so k is twice that of torchmd's files."""
    return (0.5 * stiffness * (values - centre) ** 2).sum(dim=-1)


def fourier_energy(
    angle_rad: Float[Tensor, "frames terms"],
    amplitude: Float[Tensor, "terms orders"],
    phase_rad: Float[Tensor, "terms orders"],
    damping: Float[Tensor, "frames terms"] | None = None,
) -> Float[Tensor, " frames"]:
    """Return Σ Aₙ (1 + D cos(n φ - δₙ)) over terms and orders n = 1, 2; D is 1 where not given."""
    orders = torch.arange(1, amplitude.shape[-1] + 1, device=angle_rad.device)
    waves = torch.cos(orders * angle_rad[..., None] - phase_rad)
    if damping is not None:
        waves = damping[..., None] * waves
    return (amplitude * (1 + waves)).sum(dim=(-2, -1))


def straightness_damping(
    positions_nm: Float[Tensor, "frames beads 3"], quadruples: Int[Tensor, "dihedrals 4"]
) -> Float[Tensor, "frames dihedrals"]:
    """Return the factor that takes a dihedral away where three of its beads lie on a line.

    The force of a dihedral grows as 1 / sin θ, since a small step turns it by a large angle, and a
    chain that comes near such a line is torn by it. D is the product over both bond angles of
    q² (3 - 2q), q = min(sin² θ / ``DAMPED_SINE_SQUARE``, 1): one with zero slope where an angle is
    well defined, and zero fast enough on the line.
    """
    i, j, k, m = quadruples.unbind(-1)
    first, middle, last = (
        positions_nm[:, there] - positions_nm[:, here] for here, there in ((i, j), (j, k), (k, m))
    )
    damping = torch.ones_like(first[..., 0])
    for u, v in ((first, middle), (middle, last)):
        lengths = (u.square().sum(dim=-1) * v.square().sum(dim=-1)).clamp_min(SMALLEST_SQUARE)
        sine_square = torch.linalg.cross(u, v, dim=-1).square().sum(dim=-1) / lengths
        q = (sine_square / DAMPED_SINE_SQUARE).clamp_max(1)
        damping = damping * q.square() * (3 - 2 * q)
    return damping


def repulsion_energy(
    distance_nm: Float[Tensor, "frames terms"],
    strength: Float[Tensor, " terms"],
    sigma_nm: Float[Tensor, " terms"],
) -> Float[Tensor, " frames"]:
    """Return Σ ε ((σ/r)⁶ - (σ/R)⁶ (4 - 3 r²/R²)), zero beyond R, ``REPULSION_RANGE_NM``.

    The excluded volume ε (σ/r)⁶ of Husic et al., J. Chem. Phys. 153, 194101 (2020), shifted by a
    line in r² so that energy and force end at zero in R.
    """
    r = distance_nm.clamp_max(REPULSION_RANGE_NM)
    shift = (sigma_nm / REPULSION_RANGE_NM) ** 6 * (4 - 3 * (r / REPULSION_RANGE_NM) ** 2)
    return (strength * ((sigma_nm / r) ** 6 - shift)).sum(dim=-1)


class BondPrior(nn.Module):
    """Harmonic bonds; stiffness in kJ/mol/nm²."""

    pairs: Tensor
    stiffness: Tensor
    length_nm: Tensor

    def __init__(self, pairs: Int[Tensor, "bonds 2"]) -> None:
        super().__init__()
        self.register_buffer("pairs", pairs, persistent=False)
        self.register_buffer("stiffness", _zeros(len(pairs)))
        self.register_buffer("length_nm", _zeros(len(pairs)))

    def forward(self, positions_nm: Float[Tensor, "frames beads 3"]) -> Float[Tensor, " frames"]:
        """Return the energy, kJ/mol."""
        return harmonic_energy(distances(positions_nm, self.pairs), self.stiffness, self.length_nm)


class AnglePrior(nn.Module):
    """Angles harmonic in cos θ, which has no singular force on a straight line; kJ/mol."""

    triples: Tensor
    stiffness: Tensor
    cosine: Tensor

    def __init__(self, triples: Int[Tensor, "angles 3"]) -> None:
        super().__init__()
        self.register_buffer("triples", triples, persistent=False)
        self.register_buffer("stiffness", _zeros(len(triples)))
        self.register_buffer("cosine", _zeros(len(triples)))

    def forward(self, positions_nm: Float[Tensor, "frames beads 3"]) -> Float[Tensor, " frames"]:
        """Return the energy, kJ/mol."""
        cosines = torch.cos(angles(positions_nm, self.triples))
        return harmonic_energy(cosines, self.stiffness, self.cosine)


class DihedralPrior(nn.Module):
    """Fourier series of orders 1 and 2 with free phases, hence chiral; amplitudes in kJ/mol.

    Near a straight line, where a dihedral angle is not defined, they are damped.
    """

    quadruples: Tensor
    amplitude: Tensor
    phase_rad: Tensor

    def __init__(self, quadruples: Int[Tensor, "dihedrals 4"]) -> None:
        super().__init__()
        self.register_buffer("quadruples", quadruples, persistent=False)
        self.register_buffer("amplitude", _zeros(len(quadruples), N_DIHEDRAL_ORDERS))
        self.register_buffer("phase_rad", _zeros(len(quadruples), N_DIHEDRAL_ORDERS))

    def forward(self, positions_nm: Float[Tensor, "frames beads 3"]) -> Float[Tensor, " frames"]:
        """Return the energy, kJ/mol."""
        return fourier_energy(
            dihedrals(positions_nm, self.quadruples),
            self.amplitude,
            self.phase_rad,
            straightness_damping(positions_nm, self.quadruples),
        )


class RepulsionPrior(nn.Module):
    """Excluded volume of pairs further along the chain; ε in kJ/mol."""

    pairs: Tensor
    strength: Tensor
    sigma_nm: Tensor

    def __init__(self, pairs: Int[Tensor, "repelling 2"]) -> None:
        super().__init__()
        self.register_buffer("pairs", pairs, persistent=False)
        self.register_buffer("strength", _zeros(len(pairs)))
        self.register_buffer("sigma_nm", _zeros(len(pairs)))

    def forward(self, positions_nm: Float[Tensor, "frames beads 3"]) -> Float[Tensor, " frames"]:
        """Return the energy, kJ/mol."""
        return repulsion_energy(distances(positions_nm, self.pairs), self.strength, self.sigma_nm)


class Priors(nn.Module):
    """The sum of the four prior terms of one molecule; all parameters are zero until fitted."""

    def __init__(self, topology: BeadTopology, settings: PriorSettings) -> None:
        super().__init__()
        terms = find_terms(topology, settings.excluded_neighbours)
        self.bond = BondPrior(terms.pairs)
        self.angle = AnglePrior(terms.triples)
        self.dihedral = DihedralPrior(terms.quadruples)
        self.repulsion = RepulsionPrior(terms.repelling)

    def forward(self, positions_nm: Float[Tensor, "frames beads 3"]) -> Float[Tensor, " frames"]:
        """Return the energy, kJ/mol."""
        return (
            self.bond(positions_nm)
            + self.angle(positions_nm)
            + self.dihedral(positions_nm)
            + self.repulsion(positions_nm)
        )


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def _index(rows: Sequence[tuple[int, ...]], width: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, width)


def _reached(neighbours: list[list[int]], start: int, steps: int) -> set[int]:
    reached = {start}
    for _ in range(steps):
        reached |= {j for i in reached for j in neighbours[i]}
    return reached
