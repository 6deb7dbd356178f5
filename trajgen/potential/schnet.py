"""CGSchNet: continuous-filter convolutions on the beads of one molecule, over all pairs at once.

SchNet (Schütt et al., J. Chem. Phys. 148, 241722 (2018)) with tanh in place of the shifted
softplus (Husic et al., J. Chem. Phys. 153, 194101 (2020)), with the radial basis of the C-alpha
models of Majewski et al., Nat. Commun. 14, 5739 (2023). A block is

    h_i += L₃(tanh(L₂(Σ_j W(d_ij) ∘ L₁ h_j))),   W(d) = M₂(tanh(M₁(e(d)))) · c(d),

with the radial basis e and the cosine cutoff c. The filters depend on distances only, so they are
computed once for each unordered pair and serve both directions. Every pair is computed; that is
the fastest way for chains of up to about a hundred beads. In training on a CPU they are computed on
the knots of a table instead, of which there are fewer than pairs of a batch.

Distances cannot tell a chain from its mirror image, and so neither can a sum over them. With
``handed`` the first features of a bead know the twist of the chain around it (``Twist``); without
it the network is CGSchNet as published.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from trajgen.data.topology import BeadTopology
from trajgen.geometry.internal import all_pairs, distances
from trajgen.potential.pair_messages import pair_messages
from trajgen.potential.priors import find_terms
from trajgen.potential.tabulated_messages import (
    SplineWeights,
    spline_coefficients,
    tabulated_messages,
)
from trajgen.residues import N_BEAD_TYPES
from trajgen.seeding import torch_generator
from trajgen.settings import Settings

#: Distance of consecutive C-alpha atoms across a trans peptide bond.
BOND_NM = 0.38
#: Intervals of a table of filters for each radial function: more functions are narrower.
INTERVALS_PER_FUNCTION = 28

#: From what beads send to the sums over the other beads that they receive.
Messages = Callable[[Float[Tensor, "frames beads width"]], Float[Tensor, "frames beads width"]]


class NetworkSettings(Settings):
    """Sizes of the network.

    Attributes:
        blocks: interaction blocks.
        features: width of a bead's features and of the filters.
        radial_functions: functions of the radial basis.
        cutoff_lower_nm: the network is silent below this distance, where the priors rule; at 0 it
            sees bonds as clearly as contacts.
        cutoff_nm: and beyond this one.
        handed: whether beads know the twist of the chain around them, which changes its sign in
            the mirror image; without it the network sees distances alone, as published.
    """

    blocks: int = Field(default=2, ge=1)
    features: int = Field(default=64, ge=2)
    radial_functions: int = Field(default=18, ge=2)
    cutoff_lower_nm: float = Field(default=0.0, ge=0)
    cutoff_nm: float = Field(default=1.5, gt=0)
    handed: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> "NetworkSettings":
        if self.cutoff_lower_nm >= self.cutoff_nm:
            raise ValueError(
                f"cutoff_lower_nm {self.cutoff_lower_nm} must be below cutoff_nm {self.cutoff_nm}"
            )
        return self


def cosine_cutoff(
    distance_nm: Float[Tensor, "*batch"], lower_nm: float, upper_nm: float
) -> Float[Tensor, "*batch"]:
    """Return a smooth window: zero with zero slope at the upper end, and at a lower one above 0.

    Without a lower end it is ½ (cos(π d / upper) + 1) (Behler and Parrinello, Phys. Rev. Lett. 98,
    146401 (2007)); with one, ½ (1 - cos(2π (d - lower) / (upper - lower))).
    """
    if lower_nm > 0:
        inside = (distance_nm > lower_nm) & (distance_nm < upper_nm)
        phase = 2 * math.pi * (distance_nm - lower_nm) / (upper_nm - lower_nm)
        return torch.where(inside, 0.5 * (1 - torch.cos(phase)), 0.0)
    inside = distance_nm < upper_nm
    return torch.where(inside, 0.5 * (torch.cos(math.pi * distance_nm / upper_nm) + 1), 0.0)


class ExpNormalBasis(nn.Module):
    """Gaussians in exp(-a (d - lower)), dense at short distances; centres and widths are trained.

    e_k(d) = c(d) exp(-b_k (exp(-a (d - lower)) - m_k)²) with a = 5 / (upper - lower), m_k even on
    [exp(-5), 1] and b_k = (2/K (1 - exp(-5)))⁻² (Unke and Meuwly, J. Chem. Theory Comput. 15, 3678
    (2019), eq. 7, with distances scaled by the cutoff).
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        count = settings.radial_functions
        self.lower_nm, self.upper_nm = settings.cutoff_lower_nm, settings.cutoff_nm
        self.rate_per_nm = 5 / (self.upper_nm - self.lower_nm)
        end = math.exp(-5)
        self.centres = nn.Parameter(torch.linspace(end, 1, count))
        self.sharpness = nn.Parameter(torch.full((count,), (2 / count * (1 - end)) ** -2))

    def forward(self, distance_nm: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch functions"]:
        """Return the basis functions at distances."""
        near = torch.exp(-self.rate_per_nm * (distance_nm - self.lower_nm))[..., None]
        window = cosine_cutoff(distance_nm, 0.0, self.upper_nm)[..., None]
        return window * torch.exp(-self.sharpness * (near - self.centres) ** 2)


class Interaction(nn.Module):
    """One block: filters of the distances, messages between all beads, an update of the beads."""

    def __init__(self, settings: NetworkSettings, generator: torch.Generator) -> None:
        super().__init__()
        width = settings.features
        self.filter_in = _linear(settings.radial_functions, width, generator)
        self.filter_out = _linear(width, width, generator)
        self.source = _linear(width, width, generator, bias=False)
        self.target_in = _linear(width, width, generator)
        self.target_out = _linear(width, width, generator)

    def filters(
        self, basis: Float[Tensor, "*batch functions"], window: Float[Tensor, "*batch 1"]
    ) -> Float[Tensor, "*batch width"]:
        """Return the filters at distances, of the radial basis and the cutoff there."""
        return self.filter_out(torch.tanh(self.filter_in(basis))) * window

    def forward(
        self, features: Float[Tensor, "frames beads width"], messages: Messages
    ) -> Float[Tensor, "frames beads width"]:
        """Return the change of the features.

        Args:
            features: of the beads.
            messages: from what the beads send to the sums that they receive.
        """
        received = messages(self.source(features))
        return self.target_out(torch.tanh(self.target_in(received)))


class Twist(nn.Module):
    """Features of a bead from the twist of the chain around it.

    Of three consecutive bonds a, b, c the numbers are

        s = a · (b × c) / l³,   t = (a × b) · (b × c) / l⁴,   l = 0.38 nm,

    which are sin φ and cos φ of the dihedral angle times the sines of both bond angles (and the
    bond lengths in units of l). They are polynomials of the coordinates: smooth everywhere, also
    where three beads lie on a line and φ is not defined. s changes its sign in the mirror image.
    A bead takes the numbers of the runs of bonds that it belongs to, in four sums by its place in
    the run; in an unbranched chain each is one number.
    """

    runs: Tensor
    places: Tensor

    def __init__(self, topology: BeadTopology, width: int, generator: torch.Generator) -> None:
        super().__init__()
        runs = find_terms(topology, excluded_neighbours=0).quadruples
        self.register_buffer("runs", runs, persistent=False)
        # Where the four beads of each run take its numbers: four places a bead.
        self.register_buffer("places", (4 * runs + torch.arange(4)).flatten(), persistent=False)
        self.inner = _linear(8, width, generator)
        self.outer = _linear(width, width, generator)

    def forward(
        self, positions_nm: Float[Tensor, "frames beads 3"]
    ) -> Float[Tensor, "frames beads width"]:
        """Return what is added to the features of each bead."""
        i, j, k, m = self.runs.unbind(-1)
        a, b, c = (
            (positions_nm[:, there] - positions_nm[:, here]) / BOND_NM
            for here, there in ((i, j), (j, k), (k, m))
        )
        left, right = torch.linalg.cross(a, b, dim=-1), torch.linalg.cross(b, c, dim=-1)
        numbers = torch.stack([(a * right).sum(dim=-1), (left * right).sum(dim=-1)], dim=-1)
        frames, beads = positions_nm.shape[:2]
        around = numbers.new_zeros(frames, 4 * beads, 2)
        around = around.index_add(1, self.places, numbers.repeat_interleave(4, dim=1))
        return self.outer(torch.tanh(self.inner(around.reshape(frames, beads, 8))))


class CGSchNet(nn.Module):
    """The network's energy of one molecule, in units of ``energy_scale``.

    The output has no bias: an offset of the energy gives no force.
    """

    types: Tensor
    pairs: Tensor

    def __init__(
        self,
        topology: BeadTopology,
        settings: NetworkSettings,
        energy_scale: float,
        seed: int,
    ) -> None:
        """Build the network with fresh weights.

        Args:
            topology: the beads; their types are embedded.
            settings: sizes.
            energy_scale: what an output of one means, kJ/mol; kT makes training unit-free.
            seed: seed of the weights.
        """
        super().__init__()
        width = settings.features
        generator = torch_generator(seed)
        self.energy_scale = energy_scale
        self.lower_nm, self.upper_nm = settings.cutoff_lower_nm, settings.cutoff_nm
        self.register_buffer("types", torch.tensor(topology.types), persistent=False)
        self.register_buffer("pairs", all_pairs(topology.n_beads), persistent=False)
        self.embedding = nn.Parameter(torch.randn(N_BEAD_TYPES, width, generator=generator))
        self.twist = Twist(topology, width, generator) if settings.handed else None
        self.basis = ExpNormalBasis(settings)
        self.blocks = nn.ModuleList(
            Interaction(settings, generator) for _ in range(settings.blocks)
        )
        self.head_in = _linear(width, max(width // 2, 1), generator)
        self.head_out = _linear(max(width // 2, 1), 1, generator, bias=False)

    def forward(
        self, positions_nm: Float[Tensor, "frames beads 3"], tabulated: bool = False
    ) -> Float[Tensor, " frames"]:
        """Return the energy, kJ/mol.

        Args:
            positions_nm: coordinates.
            tabulated: on a CPU, compute the filters on the knots of tables, where there are fewer
                of them than pairs; gradients reach the weights through the tables. In single
                precision the energies of networks of the default size are the same within some
                10⁻⁶, and forces and gradients within 5·10⁻⁵.
        """
        readout = self.readout(positions_nm, tabulated)
        return self.energy_scale * self.head_out(readout).squeeze(-1)

    def readout(
        self, positions_nm: Float[Tensor, "frames beads 3"], tabulated: bool = False
    ) -> Float[Tensor, "frames numbers"]:
        """Return the sums over beads that the energy is linear in."""
        apart = distances(positions_nm, self.pairs)
        features = self.embedding[self.types].expand(len(positions_nm), -1, -1)
        if self.twist is not None:
            features = features + self.twist(positions_nm)
        intervals = INTERVALS_PER_FUNCTION * len(self.basis.centres)
        if tabulated and apart.device.type == "cpu" and apart.numel() > intervals:
            messages = self._tabulated(apart, intervals)
        else:
            messages = self._of_each_pair(apart)
        for block, of_block in zip(self.blocks, messages, strict=True):
            features = features + block(features, of_block)
        return torch.tanh(self.head_in(features)).sum(dim=1)

    def _of_each_pair(self, apart: Float[Tensor, "frames pairs"]) -> list[Messages]:
        """Return the messages of each block through the filters of each pair."""
        basis = self.basis(apart)
        window = cosine_cutoff(apart, self.lower_nm, self.upper_nm)[..., None]
        return [
            partial(pair_messages, block.filters(basis, window), pairs=self.pairs)
            for block in self._interactions()
        ]

    def _tabulated(self, apart: Float[Tensor, "frames pairs"], intervals: int) -> list[Messages]:
        """Return the messages of each block through a table of its filters."""
        spacing_nm = (self.upper_nm - self.lower_nm) / intervals
        steps = torch.arange(-2, intervals + 3, device=apart.device)
        knots_nm = self.lower_nm + spacing_nm * steps.to(apart.dtype)
        basis = self.basis(knots_nm)
        # The cutoff is even about both of its ends: there it goes on smoothly, not with zeros.
        within = self.upper_nm - (self.upper_nm - knots_nm).abs()
        within = self.lower_nm + (within - self.lower_nm).abs()
        window = cosine_cutoff(within, self.lower_nm, self.upper_nm)[:, None]
        places = (apart - self.lower_nm) / spacing_nm
        weights = SplineWeights(places, intervals, self.pairs)
        tables = [spline_coefficients(b.filters(basis, window)) for b in self._interactions()]
        return [partial(tabulated_messages, table, weights=weights) for table in tables]

    def _interactions(self) -> list[Interaction]:
        return [block for block in self.blocks if isinstance(block, Interaction)]


def _linear(inputs: int, outputs: int, generator: torch.Generator, bias: bool = True) -> nn.Linear:
    """Return a layer with Xavier weights and zero bias, drawn from ``generator`` alone."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
