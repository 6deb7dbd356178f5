"""What a surrogate moves: C-alpha beads, or all heavy atoms.

Either way the molecule is a chain of residues, each with a rigid frame and with torsions (none for
beads), and its sites (beads, or atoms) follow from these. Both have the same attributes:

    name            ``ca`` or ``heavy``
    beads           the residues, as C-alpha beads
    topology        what a frame holds: beads, or atoms
    site_residues   the residue of each site
    pose_sites      sites that say how the molecule lies in space
    pose_residues   the fewest residues that say how a frame lies: three points do
    has_torsion     the torsions of each residue
    rotation_needs  residues that the rotation of each residue's frame is made of
    inner_in_use    the inner channels of each residue, those besides its frame, that mean something
    inner_needs     residues that each inner channel is made of
"""

from copy import copy
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajgen.data.mapping import alpha_carbon_beads
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError
from trajgen.geometry.frames import RigidFrames, chain_frames
from trajgen.residues import CAPS
from trajgen.surrogate.backbone_chain import BackboneChain
from trajgen.surrogate.heavy_atoms import HeavyAtoms, HeavyGeometry, backbone_frames
from trajgen.surrogate.overlaps import Overlaps

MIN_BEADS = 3
Moved = TypeVar("Moved", "AlphaCarbons", "AllHeavyAtoms")


class AlphaCarbons:
    """C-alpha beads: a bead is the origin of its residue's frame, and there are no torsions."""

    name = "ca"

    def __init__(self, beads: BeadTopology) -> None:
        """Take the beads.

        Raises:
            InputError: fewer than three, of which no rigid frame can be made, or several chains.
        """
        chains = len(set(beads.chains))
        if chains > 1:
            raise InputError(
                f"the molecule has {chains} chains; a surrogate of beads makes rigid frames of "
                "three consecutive beads, and is of one chain: take one, or all atoms by "
                "model.resolution=heavy"
            )
        if beads.n_beads < MIN_BEADS:
            raise InputError(
                f"the molecule has {beads.n_beads} beads; the surrogate makes rigid frames of "
                f"three consecutive beads and needs at least {MIN_BEADS}"
            )
        self.beads = self.topology = beads
        self.site_residues = torch.arange(beads.n_beads)
        self.pose_sites = torch.ones(beads.n_beads, dtype=torch.bool)
        self.pose_residues = 3
        self.has_torsion = torch.zeros(beads.n_beads, 0, dtype=torch.bool)
        middle = torch.arange(beads.n_beads).clamp(1, beads.n_beads - 2)
        self.rotation_needs = middle[:, None] + torch.arange(-1, 2)
        #: The bond of each bead: to the bead before, and of the first bead of a chain to the next.
        self.bonded = torch.tensor(_own_bonds(beads))
        self.inner_in_use = torch.ones(beads.n_beads, 1, dtype=torch.bool)
        self.inner_needs = self.bonded[:, None]

    def frames(self, positions_nm: Float[Tensor, "*frames sites 3"]) -> RigidFrames:
        """Return the rigid frame of each bead, from three consecutive ones."""
        return chain_frames(positions_nm)

    def torsions(
        self, positions_nm: Float[Tensor, "*frames sites 3"]
    ) -> Float[Tensor, "*frames residues torsions"]:
        """Return no torsions."""
        return positions_nm[..., :0]

    def inner(
        self,
        positions_nm: Float[Tensor, "*frames sites 3"],
        reference_torsions: Float[Tensor, "*references residues torsions"],
    ) -> Float[Tensor, "*frames residues channels"]:
        """Return the length of the bond of each bead, nm; there are no torsions to refer to."""
        one, other = self.bonded.unbind(-1)
        bonds_nm = positions_nm[..., other, :] - positions_nm[..., one, :]
        return bonds_nm.norm(dim=-1, keepdim=True)

    def sites(
        self,
        frames: RigidFrames,
        inner: Float[Tensor, "*frames residues channels"],
        reference_torsions: Float[Tensor, "*references residues torsions"],
        held: Bool[Tensor, "*frames residues"],
    ) -> Float[Tensor, "*frames sites 3"]:
        """Return the origins of the frames, nm; ``BeadChain.mended`` sees to bond lengths."""
        return frames.origins

    def untangled(
        self,
        positions_nm: Float[Tensor, "*frames sites 3"],
        held: Bool[Tensor, "*frames residues"],
    ) -> Float[Tensor, "*frames sites 3"]:
        """Return the beads as they are: they have no bonds to turn about."""
        return positions_nm

    def overlapping(self, positions_nm: Float[Tensor, "frames sites 3"]) -> Bool[Tensor, " frames"]:
        """Say that no frame has atoms too near each other: there are none but the beads."""
        return torch.zeros(len(positions_nm), dtype=torch.bool, device=positions_nm.device)

    def alpha_carbons(
        self, positions_nm: Float[Tensor, "*frames sites 3"]
    ) -> Float[Tensor, "*frames residues 3"]:
        """Return the beads."""
        return positions_nm

    def tensors(self) -> dict[str, Tensor]:
        """Return nothing: the topology says all."""
        return {}

    def to(self, device: torch.device) -> "AlphaCarbons":
        """Return it on a device."""
        return _tensors_moved(self, device)


class AllHeavyAtoms:
    """All heavy atoms: backbone chains between frames and torsions, and side chains upon them."""

    name = "heavy"

    def __init__(self, geometry: HeavyGeometry, chains: tuple[BackboneChain, ...]) -> None:
        """Take the geometry of a molecule and of its chains, in the order of residues."""
        atoms = geometry.atoms
        self.geometry, self.chains = geometry, chains
        self.topology = atoms.topology
        self.beads = alpha_carbon_beads(atoms.topology)[0]
        self.has_torsion = atoms.has_torsion
        self.site_residues = _site_residues(atoms)
        self.overlaps = Overlaps.of(atoms, self.site_residues)
        self.pose_sites = torch.zeros(atoms.topology.n_atoms, dtype=torch.bool)
        self.pose_sites[atoms.backbone.flatten()] = True
        self.pose_residues = 1
        self.rotation_needs = self.site_residues[atoms.backbone]
        # What is no torsion needs nothing that is not there: its atoms stand as zeros.
        own = torch.arange(atoms.n_residues)[:, None, None]
        needs = self.site_residues[atoms.torsion_atoms]
        torsion_needs = torch.where(atoms.has_torsion[..., None], needs, own)
        # Sines, then cosines.
        self.inner_in_use = torch.cat([atoms.has_torsion, atoms.has_torsion], dim=1)
        self.inner_needs = torch.cat([torsion_needs, torsion_needs], dim=1)

    @classmethod
    def measure(
        cls, topology: AtomTopology, positions_nm: Float[Tensor, "frames sites 3"]
    ) -> "AllHeavyAtoms":
        """Measure the bond lengths and angles of a molecule on frames of it.

        Raises:
            InputError: backbone atoms are missing, or an atom belongs to no residue.
        """
        atoms = HeavyAtoms.of(topology)
        geometry = atoms.measure(positions_nm)
        backbone = positions_nm[:, atoms.backbone]
        chains = [BackboneChain.measure(backbone[:, run]) for run in chain_runs(atoms)]
        return cls(geometry, tuple(chains))

    @classmethod
    def restore(cls, topology: AtomTopology, tensors: dict[str, Tensor]) -> "AllHeavyAtoms":
        """Read back what ``tensors`` gave.

        Raises:
            KeyError: one of them is missing.
        """
        atoms = HeavyAtoms.of(topology)
        names = ("local_nm", "backbone_nm", "rings_nm")
        geometry = HeavyGeometry(atoms, *(tensors[name] for name in names))
        lengths, angles = tensors["backbone_lengths_nm"], tensors["backbone_angles"]
        chains = [BackboneChain(lengths[run], angles[run]) for run in chain_runs(atoms)]
        return cls(geometry, tuple(chains))

    def frames(self, positions_nm: Float[Tensor, "*frames sites 3"]) -> RigidFrames:
        """Return the rigid frame of each residue, from N, CA and C."""
        return backbone_frames(positions_nm[..., self.geometry.atoms.backbone, :])

    def torsions(
        self, positions_nm: Float[Tensor, "*frames sites 3"]
    ) -> Float[Tensor, "*frames residues torsions"]:
        """Return the torsions of each residue, radian."""
        return self.geometry.atoms.torsions(positions_nm)

    def alpha_carbons(
        self, positions_nm: Float[Tensor, "*frames sites 3"]
    ) -> Float[Tensor, "*frames residues 3"]:
        """Return the C-alpha positions, nm."""
        return positions_nm[..., self.geometry.atoms.backbone[:, 1], :]

    def inner(
        self,
        positions_nm: Float[Tensor, "*frames sites 3"],
        reference_torsions: Float[Tensor, "*references residues torsions"],
    ) -> Float[Tensor, "*frames residues channels"]:
        """Return how far sine and cosine of each torsion are from those of the reference."""
        return _on_circle(self.torsions(positions_nm)) - _on_circle(reference_torsions)

    def sites(
        self,
        frames: RigidFrames,
        inner: Float[Tensor, "*frames residues channels"],
        reference_torsions: Float[Tensor, "*references residues torsions"],
        held: Bool[Tensor, "*frames residues"],
    ) -> Float[Tensor, "*frames sites 3"]:
        """Return all heavy atoms, nm; no bond length or angle within a chain is wrong.

        Args:
            frames: rigid frame of each residue.
            inner: what ``inner`` gives, but for errors.
            reference_torsions: what it was relative to, radian.
            held: residues whose frames are known, and not to be moved for the sake of others.
        """
        torsions = torch.atan2(*(inner + _on_circle(reference_torsions)).chunk(2, dim=-1))
        backbone = self.geometry.backbone(frames)
        placed, turned = [], []
        for chain, run in zip(self.chains, chain_runs(self.geometry.atoms), strict=True):
            fitted, own = chain.fit(backbone[..., run, :, :], torsions[..., run, :], held[..., run])
            placed.append(fitted)
            turned.append(own)
        return self.geometry.build(torch.cat(placed, dim=-3), torch.cat(turned, dim=-2))

    def untangled(
        self,
        positions_nm: Float[Tensor, "*frames sites 3"],
        held: Bool[Tensor, "*frames residues"],
    ) -> Float[Tensor, "*frames sites 3"]:
        """Return what ``sites`` gave, with atoms turned apart where they overlap.

        Args:
            positions_nm: all heavy atoms.
            held: residues that are known, and are not turned.
        """
        sites, known = positions_nm.flatten(0, -3), held.flatten(0, -2)
        backbone = sites[:, self.geometry.atoms.backbone]
        runs = list(zip(self.chains, chain_runs(self.geometry.atoms), strict=True))

        def build(torsions: Tensor, rows: Tensor) -> Tensor:
            chains = [
                chain.place(torsions[:, run], backbone[rows][:, run], known[rows][:, run])
                for chain, run in runs
            ]
            return self.geometry.build(torch.cat(chains, dim=1), torsions)

        torsions = self.torsions(sites)
        return self.overlaps.relieved(sites, torsions, known, build).view_as(positions_nm)

    def overlapping(self, positions_nm: Float[Tensor, "frames sites 3"]) -> Bool[Tensor, " frames"]:
        """Say in which frames atoms are too near each other."""
        return self.overlaps.present(positions_nm)

    def tensors(self) -> dict[str, Tensor]:
        """Return the bond lengths and angles."""
        return {
            "local_nm": self.geometry.local_nm,
            "backbone_nm": self.geometry.backbone_nm,
            "rings_nm": self.geometry.rings_nm,
            "backbone_lengths_nm": torch.cat([chain.lengths_nm for chain in self.chains]),
            "backbone_angles": torch.cat([chain.angles for chain in self.chains]),
        }

    def to(self, device: torch.device) -> "AllHeavyAtoms":
        """Return it on a device."""
        chains = [BackboneChain(c.lengths_nm.to(device), c.angles.to(device)) for c in self.chains]
        moved = _tensors_moved(self, device)
        moved.geometry, moved.chains = self.geometry.to(device), tuple(chains)
        moved.overlaps = self.overlaps.to(device)
        return moved


def _tensors_moved(resolution: Moved, device: torch.device) -> Moved:
    """Return a copy whose own tensors lie on a device."""
    moved = copy(resolution)
    for name, value in vars(resolution).items():
        if isinstance(value, Tensor):
            setattr(moved, name, value.to(device))
    return moved


def _on_circle(
    torsions: Float[Tensor, "*batch torsions"],
) -> Float[Tensor, "*batch channels"]:
    """Return the sines of angles, radian, and their cosines."""
    return torch.cat([torsions.sin(), torsions.cos()], dim=-1)


def _own_bonds(beads: BeadTopology) -> list[tuple[int, int]]:
    before = {max(pair): (min(pair), max(pair)) for pair in beads.bonds}
    after = {min(pair): (min(pair), max(pair)) for pair in beads.bonds}
    # A bead without a bond has that of another: there is no length of its own to be told.
    some = next(iter(before.values()), (0, 1))
    return [before.get(bead, after.get(bead, some)) for bead in range(beads.n_beads)]


def chain_runs(atoms: HeavyAtoms) -> list[slice]:
    """Return the runs of residues that peptide bonds join."""
    bonded = {frozenset(pair) for pair in atoms.topology.bonds}
    begins = [0]
    for residue in range(1, atoms.n_residues):
        joint = frozenset((int(atoms.backbone[residue - 1, 2]), int(atoms.backbone[residue, 0])))
        if joint not in bonded:
            begins.append(residue)
    ends = [*begins[1:], atoms.n_residues]
    return [slice(begin, end) for begin, end in zip(begins, ends, strict=True)]


def _site_residues(atoms: HeavyAtoms) -> Int[Tensor, " sites"]:
    """Return the residue that each atom hangs on; caps hang on the one beside them."""
    topology = atoms.topology
    numbers: dict[int, int] = {}
    count = 0
    for residue, name in enumerate(topology.residues):
        if name not in CAPS:
            numbers[residue] = count
            count += 1
    for residue, name in enumerate(topology.residues):
        if name in CAPS:
            beside = residue + 1 if residue + 1 in numbers else residue - 1
            numbers[residue] = numbers[beside]
    return torch.tensor([numbers[residue] for residue in topology.atom_residues])


Resolution = AlphaCarbons | AllHeavyAtoms
