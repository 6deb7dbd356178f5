"""All heavy atoms of a molecule from its backbone and its torsions, and back.

The atoms of a residue are rigid groups: those that go with the backbone atoms N, CA and C, and for
each torsion those that turn with it about its middle bond. Where a group's atoms lie in the frame
of the bond, at a torsion of zero, is the geometry of the molecule: bond lengths and angles,
measured on its own frames. So a conformation is three backbone atoms and up to seven torsions a
residue, and atoms that are rebuilt from them have the geometry of the molecule, whatever numbers a
network gives.

The last residue of a chain has no next nitrogen, and its psi is measured to the oxygen. The ring of
proline is a chain whose end meets its begin, which takes more than torsions; see ``proline_rings``.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajgen.data.topology import AtomTopology
from trajgen.data.torsions import SIDE_CHAINS, atom_places, next_residues, residue_labels
from trajgen.errors import InputError
from trajgen.geometry.frames import RigidFrames, frames_from_three_points, torsion_frames
from trajgen.geometry.internal import dihedrals
from trajgen.residues import CAPS, standard_name
from trajgen.surrogate.proline_rings import ProlineRings

#: The torsions of a residue, in the order of their channels.
TORSIONS = ("omega", "phi", "psi", "chi1", "chi2", "chi3", "chi4")
BACKBONE = ("N", "CA", "C")
#: Chi angles that turn something; chi5 of ARG is flat.
_CHIS = 4
_CARBOXYL = ("O", "OXT", "OT1", "OT2", "O1", "O2")


@dataclass(frozen=True)
class RigidGroup:
    """Atoms that are rigid together.

    Attributes:
        residue: number of the residue, caps not counted.
        torsion: the torsion that turns them, None for those that go with the backbone.
        frame_atoms: three atoms; the frame has its origin at the last, its x axis along the bond
            from the second to the last, and the first in the half plane of positive y.
        members: the atoms.
    """

    residue: int
    torsion: str | None
    frame_atoms: tuple[int, int, int]
    members: tuple[int, ...]

    @property
    def layer(self) -> int:
        """How many groups must stand before this one does: chi2 needs chi1, and that CB."""
        return int(self.torsion[3:]) if self.torsion and self.torsion.startswith("chi") else 0


@dataclass(frozen=True)
class Layer:
    """Groups that are built at once.

    Attributes:
        frame_atoms: the three atoms of each group's frame.
        residues: the residue of each.
        torsions: the torsion that turns each; where none does, it says nothing.
        turned: whether one does.
        members: the atoms of all groups.
        group_of: the group of each.
    """

    frame_atoms: Int[Tensor, "groups 3"]
    residues: Int[Tensor, " groups"]
    torsions: Int[Tensor, " groups"]
    turned: Bool[Tensor, " groups"]
    members: Int[Tensor, " members"]
    group_of: Int[Tensor, " members"]

    @classmethod
    def of(cls, groups: list[RigidGroup]) -> "Layer":
        """Put groups together."""
        numbers = [0 if g.torsion is None else TORSIONS.index(g.torsion) for g in groups]
        group_of = [place for place, group in enumerate(groups) for _ in group.members]
        return cls(
            torch.tensor([group.frame_atoms for group in groups]),
            torch.tensor([group.residue for group in groups]),
            torch.tensor(numbers),
            torch.tensor([group.torsion is not None for group in groups]),
            torch.tensor([atom for group in groups for atom in group.members]),
            torch.tensor(group_of),
        )

    def frames(
        self,
        positions_nm: Float[Tensor, "*frames atoms 3"],
        torsions: Float[Tensor, "*frames residues 7"],
    ) -> RigidFrames:
        """Return the frame of each member's group in each conformation, turned by its torsion."""
        a, b, c = (positions_nm[..., atom, :] for atom in self.frame_atoms.unbind(-1))
        angle = torsions[..., self.residues, self.torsions] * self.turned
        return torsion_frames(a, b, c, angle)[..., self.group_of]


@dataclass(frozen=True)
class HeavyAtoms:
    """How the heavy atoms of a molecule hang on its backbone.

    Attributes:
        topology: the heavy atoms.
        backbone: the atoms N, CA, C of each residue that has them, which caps do not.
        torsion_atoms: the four atoms of each torsion; zeros where there is none.
        has_torsion: whether there is one.
        layers: rigid groups, each after those that its frame needs.
        rings: those of proline.
    """

    topology: AtomTopology
    backbone: Int[Tensor, "residues 3"]
    torsion_atoms: Int[Tensor, "residues 7 4"]
    has_torsion: Bool[Tensor, "residues 7"]
    layers: tuple[Layer, ...]
    rings: ProlineRings

    @property
    def n_residues(self) -> int:
        """The number of residues, caps not counted."""
        return len(self.backbone)

    def to(self, device: torch.device) -> "HeavyAtoms":
        """Return it on a device."""
        layers = [
            Layer(*(getattr(layer, field.name).to(device) for field in fields(Layer)))
            for layer in self.layers
        ]
        return HeavyAtoms(
            self.topology,
            self.backbone.to(device),
            self.torsion_atoms.to(device),
            self.has_torsion.to(device),
            tuple(layers),
            self.rings.to(device),
        )

    @classmethod
    def of(cls, topology: AtomTopology) -> "HeavyAtoms":
        """Find the groups of a molecule by its atom names and bonds.

        Args:
            topology: heavy atoms only.

        Raises:
            InputError: backbone atoms are missing, an atom belongs to no group, or residues are
                bonded otherwise than along a chain.
        """
        finder = _Finder(topology)
        residues = [r for r, name in enumerate(topology.residues) if name not in CAPS]
        torsions = torch.zeros(len(residues), len(TORSIONS), 4, dtype=torch.int64)
        groups: list[RigidGroup] = []
        rings: dict[int, tuple[int, ...]] = {}
        for number, residue in enumerate(residues):
            for name, atoms in finder.torsions(residue).items():
                torsions[number, TORSIONS.index(name)] = torch.tensor(atoms)
            groups += finder.groups(number, residue)
            if (ring := finder.ring(residue)) is not None:
                rings[number] = ring
        finder.require_chains()
        finder.require_all_placed(groups)
        backbone = torch.tensor([finder.backbone(residue) for residue in residues])
        layers = [[g for g in groups if g.layer == depth] for depth in range(1 + _CHIS)]
        return cls(
            topology,
            backbone,
            torsions,
            torsions.any(dim=-1),
            tuple(Layer.of(layer) for layer in layers if layer),
            ProlineRings(
                torch.tensor(list(rings), dtype=torch.int64),
                TORSIONS.index("chi1"),
                torch.tensor(list(rings.values()), dtype=torch.int64).view(-1, 5),
            ),
        )

    def torsions(
        self, positions_nm: Float[Tensor, "*frames atoms 3"]
    ) -> Float[Tensor, "*frames residues 7"]:
        """Return the torsions, radian; zero where there is none."""
        found = positions_nm.new_zeros(*positions_nm.shape[:-2], *self.has_torsion.shape)
        quadruples = self.torsion_atoms[self.has_torsion]
        found[..., self.has_torsion] = dihedrals(positions_nm, quadruples)
        return found

    def measure(self, positions_nm: Float[Tensor, "frames atoms 3"]) -> "HeavyGeometry":
        """Measure where the atoms lie in the frames of their groups, in the mean over frames."""
        torsions = self.torsions(positions_nm)
        local = positions_nm.new_zeros(positions_nm.shape[1], 3)
        for layer in self.layers:
            frames = layer.frames(positions_nm, torsions)
            local[layer.members] = frames.invert().apply(positions_nm[:, layer.members]).mean(dim=0)
        triples = positions_nm[:, self.backbone]
        inside = backbone_frames(triples)[..., None].invert().apply(triples)
        rings_nm = self.rings.lengths_nm(positions_nm).mean(dim=0)
        return HeavyGeometry(self, local, inside.mean(dim=0), rings_nm)


@dataclass(frozen=True)
class HeavyGeometry:
    """Bond lengths and angles of a molecule, as places of atoms in the frames of their groups.

    Attributes:
        atoms: how the atoms hang together.
        local_nm: each atom in the frame of its group at a torsion of zero; zeros for the backbone.
        backbone_nm: N, CA and C of each residue in its own frame.
        rings_nm: length of the bond that closes each ring of proline.
    """

    atoms: HeavyAtoms
    local_nm: Float[Tensor, "atoms 3"]
    backbone_nm: Float[Tensor, "residues 3 3"]
    rings_nm: Float[Tensor, " rings"]

    def to(self, device: torch.device) -> "HeavyGeometry":
        """Return it on a device."""
        return HeavyGeometry(
            self.atoms.to(device),
            self.local_nm.to(device),
            self.backbone_nm.to(device),
            self.rings_nm.to(device),
        )

    def backbone(self, frames: RigidFrames) -> Float[Tensor, "*frames residues 3 3"]:
        """Return N, CA and C of residues with these rigid frames, nm."""
        return frames[..., None].apply(self.backbone_nm)

    def build(
        self,
        backbone_nm: Float[Tensor, "*frames residues 3 3"],
        torsions: Float[Tensor, "*frames residues 7"],
    ) -> Float[Tensor, "*frames atoms 3"]:
        """Return all heavy atoms.

        Args:
            backbone_nm: N, CA and C of each residue; they come back as they are.
            torsions: radian; only psi and the chi angles, and phi beside a cap, turn anything.
                Those of a ring of proline turn as far as it takes to close it.
        """
        rings = self.atoms.rings
        torsions = rings.closed(torsions, backbone_nm, self.local_nm, self.rings_nm)
        built = backbone_nm.new_zeros(*backbone_nm.shape[:-3], len(self.local_nm), 3)
        built[..., self.atoms.backbone.flatten(), :] = backbone_nm.flatten(-3, -2)
        for layer in self.atoms.layers:
            frames = layer.frames(built, torsions)
            built[..., layer.members, :] = frames.apply(self.local_nm[layer.members])
        return built


def backbone_frames(backbone_nm: Float[Tensor, "*residues 3 3"]) -> RigidFrames:
    """Return the rigid frame of residues from N, CA and C: the origin at CA, x towards C."""
    return frames_from_three_points(*backbone_nm.unbind(-2))


class _Finder:
    """What names and bonds say of a molecule."""

    def __init__(self, topology: AtomTopology) -> None:
        self.topology = topology
        self.places = atom_places(topology)
        self.following = next_residues(topology)
        self.preceding = {after: before for before, after in self.following.items()}
        self.bonded: dict[int, set[int]] = {}
        for one, other in topology.bonds:
            self.bonded.setdefault(one, set()).add(other)
            self.bonded.setdefault(other, set()).add(one)

    def backbone(self, residue: int) -> tuple[int, int, int]:
        """Return N, CA and C of a residue."""
        n, ca, c = (self.places.get((residue, name)) for name in BACKBONE)
        if n is None or ca is None or c is None:
            label = residue_labels(self.topology)[residue]
            raise InputError(
                f"residue {label} lacks one of the atoms N, CA and C; give a structure with whole "
                "residues"
            )
        return n, ca, c

    def torsions(self, residue: int) -> dict[str, tuple[int, ...]]:
        """Return the atoms of the torsions of a residue, by name."""
        n, ca, c = self.backbone(residue)
        found: dict[str, tuple[int, ...]] = {}
        before = self.preceding.get(residue)
        if before is not None:
            last = self.places[before, "C"]
            end = self.places.get((before, "CH3" if self._is_cap(before) else "CA"))
            found["phi"] = (last, n, ca, c)
            if end is not None:
                found["omega"] = (end, last, n, ca)
        after = self.following.get(residue)
        beyond = self._first(residue, _CARBOXYL) if after is None else self.places[after, "N"]
        if beyond is not None:
            found["psi"] = (n, ca, c, beyond)
        run = self._side_chain(residue)
        for chi in range(min(len(run) - 3, _CHIS)):
            found[f"chi{chi + 1}"] = tuple(run[chi : chi + 4])
        return found

    def groups(self, number: int, residue: int) -> list[RigidGroup]:
        """Return the rigid groups of a residue and of the caps beside it."""
        n, ca, c = self.backbone(residue)
        torsions = self.torsions(residue)
        own = self._atoms(residue) - {n, ca, c}
        carboxyl = {atom for atom in own if self.topology.names[atom] in _CARBOXYL}
        by_torsion: dict[str | None, set[int]] = {None: own - carboxyl, "psi": carboxyl}
        after, before = self.following.get(residue), self.preceding.get(residue)
        if after is not None and self._is_cap(after):
            by_torsion["psi"] |= self._atoms(after)
        if before is not None and self._is_cap(before):
            by_torsion["phi"] = self._atoms(before)
        places = {None: (n, ca, c), "psi": (n, ca, c), "phi": (c, ca, n)}
        for name, (first, near, far, _) in torsions.items():
            if name.startswith("chi"):  # in rising order: each takes what it turns from the last
                beyond = self._beyond(near, far, own)
                by_torsion = {other: held - beyond for other, held in by_torsion.items()}
                by_torsion[name], places[name] = beyond, (first, near, far)
        return [
            RigidGroup(number, name, places[name], tuple(sorted(members)))
            for name, members in by_torsion.items()
            if members and (name is None or name in torsions)
        ]

    def ring(self, residue: int) -> tuple[int, ...] | None:
        """Return N, CA, CB, CG and CD of a residue in which a bond joins the last to the first."""
        n, *chain = self._side_chain(residue)[:5] or (-1,)
        if len(chain) < 4 or chain[-1] not in self.bonded.get(n, ()):
            return None
        return (n, *chain)

    def require_chains(self) -> None:
        """Raise InputError where residues are bonded otherwise than by C and N to the next one.

        Torsions of one chain cannot keep the length of such a bond.
        """
        topology, labels = self.topology, residue_labels(self.topology)
        for pair in topology.bonds:
            ends = sorted(pair, key=lambda atom: topology.atom_residues[atom])
            first, second = (topology.atom_residues[atom] for atom in ends)
            names = [topology.names[atom] for atom in ends]
            if first != second and (second != first + 1 or names != ["C", "N"]):
                raise InputError(
                    f"{names[0]} of {labels[first]} and {names[1]} of {labels[second]} are bonded: "
                    "surrogates of heavy atoms keep no disulfides, rings of residues and other "
                    "bonds across a chain; use model.resolution=ca"
                )

    def require_all_placed(self, groups: list[RigidGroup]) -> None:
        """Raise InputError where atoms are in no group."""
        placed = {atom for group in groups for atom in group.members}
        residues = range(len(self.topology.residues))
        for residue in residues:
            if not self._is_cap(residue):
                placed |= set(self.backbone(residue))
        lost = sorted(set(range(self.topology.n_atoms)) - placed)
        if lost:
            labels = residue_labels(self.topology)
            named = ", ".join(
                f"{self.topology.names[a]} of {labels[self.topology.atom_residues[a]]}"
                for a in lost[:5]
            )
            raise InputError(
                f"{len(lost)} atoms hang on no residue's backbone: {named}; remove ligands and "
                "ions, and give structures whose caps are bonded"
            )

    def _is_cap(self, residue: int) -> bool:
        return self.topology.residues[residue] in CAPS

    def _atoms(self, residue: int) -> set[int]:
        return {a for a, r in enumerate(self.topology.atom_residues) if r == residue}

    def _first(self, residue: int, names: tuple[str, ...]) -> int | None:
        return next((self.places[residue, n] for n in names if (residue, n) in self.places), None)

    def _side_chain(self, residue: int) -> list[int]:
        """Return the run of atoms that the chi angles are of, as far as it is there."""
        run: list[int] = []
        for place in SIDE_CHAINS.get(standard_name(self.topology.residues[residue]), "").split():
            atom = self._first(residue, tuple(place.split("/")))
            if atom is None:
                break
            run.append(atom)
        return run

    def _beyond(self, near: int, far: int, own: set[int]) -> set[int]:
        """Return the atoms among ``own`` that turn with ``far`` about the bond from ``near``."""
        reached, front = {near, far}, [far]
        while front:
            new = (self.bonded.get(front.pop(), set()) & own) - reached
            reached |= new
            front += new
        return reached - {near, far}
