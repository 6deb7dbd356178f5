"""The backbone as a chain of fixed bond lengths and angles that phi, psi and omega turn.

A network says of each residue where its rigid frame is and what its torsions are, and the two
never agree to the last digit: frames drift apart until a bond breaks, and torsions add up to a
chain that ends elsewhere. ``fit`` finds the chain between them. With the residual e of the atoms
from where the frames put them and the residual t of the torsions it is the minimum of

    Σ |e|² / σ_e² + Σ t² / σ_t²,

by Gauss-Newton steps with the derivative of a chain of rotations, ∂r/∂τ = u × (r - o) for atoms
beyond the bond of τ, with its direction u and one of its ends o. Bond lengths and angles are those
of the molecule, so no bond of the result is wrong.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trajgen.geometry.frames import frames_from_three_points
from trajgen.geometry.superposition import superposed
from trajgen.surrogate.heavy_atoms import TORSIONS

#: How far frames and torsions of a network are trusted, nm and radian.
FRAME_ERROR_NM = 0.03
TORSION_ERROR = 0.15
#: And frames that are known, nm: they have bond lengths and angles of their own.
HELD_ERROR_NM = 0.003
#: Gauss-Newton steps; the problem is nearly linear, since both are nearly right. Where frames and
#: torsions are as wrong as above, atoms are then 2e-5 nm from the minimum in the mean.
STEPS = 4
#: Derivatives that are held at once.
MOST_SLOPES = 20_000_000

_OMEGA, _PHI, _PSI = (TORSIONS.index(name) for name in ("omega", "phi", "psi"))


@dataclass(frozen=True)
class BackboneChain:
    """Bond lengths and angles of the backbone of one chain.

    Attributes:
        lengths_nm: bonds N-CA, CA-C and C-N⁺ of each residue; the last one has no C-N⁺.
        angles: angles N-CA-C, CA-C-N⁺ and C-N⁺-CA⁺, radian; of the last one only the first counts.
    """

    lengths_nm: Float[Tensor, "residues 3"]
    angles: Float[Tensor, "residues 3"]

    @classmethod
    def measure(cls, backbone_nm: Float[Tensor, "frames residues 3 3"]) -> "BackboneChain":
        """Measure the means over frames of N, CA and C of consecutive residues."""
        run = backbone_nm.flatten(1, 2)
        steps = run.diff(dim=1)
        lengths = steps.norm(dim=-1)
        cosines = -(steps[:, 1:] * steps[:, :-1]).sum(dim=-1) / (lengths[:, 1:] * lengths[:, :-1])
        angles = torch.acos(cosines.clamp(-1, 1))
        fill = run.new_zeros(len(run), 2)
        return cls(
            torch.cat([lengths, fill[:, :1]], dim=1).mean(dim=0).view(-1, 3),
            torch.cat([angles, fill], dim=1).mean(dim=0).view(-1, 3),
        )

    @property
    def n_residues(self) -> int:
        """The number of residues."""
        return len(self.lengths_nm)

    def build(
        self, torsions: Float[Tensor, "*frames residues 7"]
    ) -> Float[Tensor, "*frames residues 3 3"]:
        """Return N, CA and C of all residues, placed one after the other, nm.

        N is at the origin, CA on the x axis and C in the plane of x and y.
        """
        lengths, angles = self.lengths_nm.flatten(), self.angles.flatten()
        turns = _chain_torsions(torsions)
        zero = torsions.new_zeros(torsions.shape[:-2])
        origin = torch.stack([zero, zero, zero], dim=-1)
        first = torch.stack([zero + lengths[0], zero, zero], dim=-1)
        bend = angles[0]
        second = first + lengths[1] * torch.stack(
            [zero - torch.cos(bend), zero + torch.sin(bend), zero], dim=-1
        )
        placed = [origin, first, second]
        for atom in range(3, 3 * self.n_residues):
            frame = frames_from_three_points(*placed[-3:])
            length, bend, turn = lengths[atom - 1], angles[atom - 2], turns[..., atom - 3]
            across = length * torch.sin(bend)
            local = torch.stack(
                [
                    zero - length * torch.cos(bend),
                    across * torch.cos(turn),
                    across * torch.sin(turn),
                ],
                dim=-1,
            )
            placed.append(placed[-1] + (frame.rotations @ local[..., None])[..., 0])
        return torch.stack(placed, dim=-2).unflatten(-2, (self.n_residues, 3))

    def fit(
        self,
        backbone_nm: Float[Tensor, "*frames residues 3 3"],
        torsions: Float[Tensor, "*frames residues 7"],
        held: Bool[Tensor, "*frames residues"],
    ) -> tuple[Float[Tensor, "*frames residues 3 3"], Float[Tensor, "*frames residues 7"]]:
        """Return the chain between where rigid frames put its atoms and what its torsions say.

        Args:
            backbone_nm: N, CA and C by the frames.
            torsions: radian; where they agree with the frames the result is both of them.
            held: residues whose frames are known.

        Returns:
            N, CA and C of the chain, nm, and its torsions.
        """
        at_once = max(1, MOST_SLOPES // (27 * self.n_residues**2))
        flat = (
            backbone_nm.reshape(-1, *backbone_nm.shape[-3:]),
            torsions.reshape(-1, *torsions.shape[-2:]),
            held.reshape(-1, held.shape[-1]),
        )
        parts = [self._fit(*some) for some in zip(*(v.split(at_once) for v in flat), strict=True)]
        placed, turned = (torch.cat(part) for part in zip(*parts, strict=True))
        return placed.view_as(backbone_nm), turned.view_as(torsions)

    def _fit(
        self,
        backbone_nm: Float[Tensor, "frames residues 3 3"],
        torsions: Float[Tensor, "frames residues 7"],
        held: Bool[Tensor, "frames residues"],
    ) -> tuple[Float[Tensor, "frames residues 3 3"], Float[Tensor, "frames residues 7"]]:
        # Squares of weights that differ by a hundred take more digits than single precision has.
        wanted = backbone_nm.flatten(-3, -2).double()
        trust = _trust(held).to(wanted)
        asked = _chain_torsions(torsions.double())
        turns = asked
        for _ in range(STEPS):
            placed = superposed(self._turned(turns), wanted, trust)
            slopes = _slopes(placed)
            weighted = slopes.mT * trust.repeat_interleave(3, dim=-1)[..., None, :]
            stiff = torch.cat(
                [torch.full_like(turns, TORSION_ERROR**-2), turns.new_zeros(*turns.shape[:-1], 6)],
                dim=-1,
            )
            normal = weighted @ slopes + torch.diag_embed(stiff)
            away = _wrapped(asked - turns)
            pull = weighted @ (wanted - placed).flatten(-2)[..., None]
            pull = pull.squeeze(-1) + stiff * torch.nn.functional.pad(away, (0, 6))
            turns = turns + torch.linalg.solve(normal, pull)[..., : turns.shape[-1]]
        placed = superposed(self._turned(turns), wanted, trust)
        placed = placed.unflatten(-2, (self.n_residues, 3))
        return placed.to(backbone_nm), _with_chain_torsions(torsions, turns.to(torsions))

    def place(
        self,
        torsions: Float[Tensor, "*frames residues 7"],
        backbone_nm: Float[Tensor, "*frames residues 3 3"],
        held: Bool[Tensor, "*frames residues"],
    ) -> Float[Tensor, "*frames residues 3 3"]:
        """Return the chain with these torsions, laid upon N, CA and C of another conformation."""
        wanted, built = backbone_nm.flatten(-3, -2), self.build(torsions).flatten(-3, -2)
        placed = superposed(built, wanted, _trust(held).to(wanted))
        return placed.unflatten(-2, (self.n_residues, 3))

    def _turned(self, turns: Tensor) -> Tensor:
        torsions = turns.new_zeros(*turns.shape[:-1], self.n_residues, len(TORSIONS))
        return self.build(_with_chain_torsions(torsions, turns)).flatten(-3, -2)


def _trust(held: Bool[Tensor, "*frames residues"]) -> Float[Tensor, "*frames atoms"]:
    """Return the weight of each backbone atom's place, nm⁻²."""
    trust = torch.where(held, HELD_ERROR_NM**-2, FRAME_ERROR_NM**-2)
    return trust.repeat_interleave(3, dim=-1)


def _chain_torsions(
    torsions: Float[Tensor, "*frames residues 7"],
) -> Float[Tensor, "*frames turns"]:
    """Return the torsions in the order of the bonds they turn: psi, then omega and phi beyond."""
    inner = torch.stack(
        [torsions[..., :-1, _PSI], torsions[..., 1:, _OMEGA], torsions[..., 1:, _PHI]], dim=-1
    )
    return inner.flatten(-2)


def _with_chain_torsions(
    torsions: Float[Tensor, "*frames residues 7"], turns: Float[Tensor, "*frames turns"]
) -> Float[Tensor, "*frames residues 7"]:
    inner = turns.unflatten(-1, (-1, 3)) if turns.shape[-1] else turns[..., None, :0]
    result = torsions.clone()
    if turns.shape[-1]:
        result[..., :-1, _PSI] = inner[..., 0]
        result[..., 1:, _OMEGA] = inner[..., 1]
        result[..., 1:, _PHI] = inner[..., 2]
    return result


def _slopes(
    placed_nm: Float[Tensor, "*frames atoms 3"],
) -> Float[Tensor, "*frames coordinates unknowns"]:
    """Return the derivatives of all coordinates by the torsions, then by shifts and rotations."""
    atoms = placed_nm.shape[-2]
    ends, axes = placed_nm[..., 1:-2, :], placed_nm[..., 2:-1, :] - placed_nm[..., 1:-2, :]
    axes = torch.nn.functional.normalize(axes, dim=-1)
    arms = placed_nm[..., :, None, :] - ends[..., None, :, :]
    moved = torch.linalg.cross(axes[..., None, :, :].expand_as(arms), arms, dim=-1)
    place = torch.arange(atoms, device=placed_nm.device)
    beyond = place[:, None] > place[None, 2:-1]
    moved = moved * beyond[..., None]
    basis = torch.eye(3, dtype=placed_nm.dtype, device=placed_nm.device)
    shifts = basis.expand(*placed_nm.shape[:-1], 3, 3)
    centred = placed_nm - placed_nm.mean(dim=-2, keepdim=True)
    turns = torch.linalg.cross(
        basis.expand(*centred.shape[:-1], 3, 3),
        centred[..., None, :].expand(*centred.shape[:-1], 3, 3),
        dim=-1,
    )
    unknowns = torch.cat([moved, shifts, turns], dim=-2)
    return unknowns.transpose(-1, -2).flatten(-3, -2)


def _wrapped(angle: Tensor) -> Tensor:
    return torch.atan2(torch.sin(angle), torch.cos(angle))
