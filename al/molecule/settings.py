"""Settings of an all-atom system: what the molecule is, and the Hamiltonian it moves in."""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from trajgen.residues import parse_sequence
from trajgen.settings import Settings

#: Backbone dihedral angles of one residue in degrees: phi, psi, and omega of the peptide bond
#: that follows (180 where it is left out).
Backbone = Annotated[tuple[float, ...], Field(min_length=2, max_length=3)]
StartName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]

#: Force-field files that each implicit solvent adds.
SOLVENT_FILES: dict[str, tuple[str, ...]] = {
    "none": (),
    "obc2": ("implicit/obc2.xml",),
    "gbn2": ("implicit/gbn2.xml",),
}
#: The name of the one start of a system that comes from a PDB file.
PDB_START = "pdb"
_LONGEST_UNCONSTRAINED_STEP_PS = 0.002


class CapSettings(Settings):
    """Capping groups of a chain built from its sequence.

    Attributes:
        ace: acetyl on the N terminus.
        nme: N-methyl amide on the C terminus.
    """

    ace: bool = False
    nme: bool = False


class SystemSettings(Settings):
    """An all-atom system.

    Attributes:
        name: name of the molecule.
        sequence: one-letter codes of a chain to build; give this or ``pdb``.
        pdb: structure file to start from, relative to the settings file; give this or ``sequence``.
        caps: capping groups of a built chain; true or false stands for both.
        starts: conformations to start dynamics from, by name: ``extended``, or for each residue
            [phi, psi] or [phi, psi, omega] in degrees, omega of the peptide bond that follows.
            A system from a PDB file has the one start ``pdb``.
        ph: acidity that decides the protonation states.
        force_field: OpenMM force-field files.
        solvent: implicit solvent; ``none`` adds nothing to ``force_field``.
        temperature_K: temperature.
        friction_per_ps: friction of the Langevin thermostat.
        time_step_ps: time step; 0.004 needs the constraints and the heavy hydrogens.
        hydrogen_mass_amu: mass of each hydrogen, taken from the atom it is bonded to; 3.024 amu
            carries a step of 4 fs (Hopkins et al., J. Chem. Theory Comput. 11, 1864, 2015).
        constraints: rigid bonds to hydrogen, or none.
        cutoff_nm: cutoff of the non-bonded forces, None for all pairs.
    """

    name: str = Field(min_length=1)
    sequence: str | None = None
    pdb: str | None = None
    caps: CapSettings = CapSettings()
    starts: dict[StartName, Literal["extended", "pdb"] | tuple[Backbone, ...]] = Field(
        default_factory=dict
    )
    ph: float = Field(7.0, ge=0, le=14)
    force_field: tuple[str, ...] = Field(("amber14/protein.ff14SB.xml",), min_length=1)
    solvent: Literal["none", "obc2", "gbn2"] = "gbn2"
    temperature_K: PositiveFloat = 300.0
    friction_per_ps: PositiveFloat = 1.0
    time_step_ps: float = Field(0.004, gt=0, le=0.005)
    hydrogen_mass_amu: float = Field(3.024, ge=1.0, le=4.0)
    constraints: Literal["h-bonds", "none"] = "h-bonds"
    cutoff_nm: PositiveFloat | None = None

    @field_validator("caps", mode="before")
    @classmethod
    def _both_caps(cls, value: Any) -> Any:
        return {"ace": value, "nme": value} if isinstance(value, bool) else value

    @field_validator("sequence")
    @classmethod
    def _known_letters(cls, value: str | None) -> str | None:
        if value is not None:
            parse_sequence(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _default_start(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("starts"):
            start = PDB_START if values.get("pdb") else "extended"
            return {**values, "starts": {start: start}}
        return values

    @model_validator(mode="after")
    def _check_together(self) -> "SystemSettings":
        if (self.sequence is None) == (self.pdb is None):
            raise ValueError("give exactly one of 'sequence' and 'pdb'")
        if self.pdb is not None:
            self._check_pdb()
        for name, start in self.starts.items():
            if start == PDB_START and self.pdb is None:
                raise ValueError(f"start '{name}' is 'pdb', but no PDB file is given")
            if not isinstance(start, str) and len(start) != len(self.sequence or ""):
                raise ValueError(
                    f"start '{name}' has dihedral angles for {len(start)} residues, but the "
                    f"sequence has {len(self.sequence or '')}; give [phi, psi] for each residue"
                )
        if self.constraints == "none" and self.time_step_ps > _LONGEST_UNCONSTRAINED_STEP_PS:
            raise ValueError(
                f"time_step_ps is {self.time_step_ps:g} with constraints 'none'; bonds to hydrogen "
                f"that move need {_LONGEST_UNCONSTRAINED_STEP_PS:g} ps or less"
            )
        return self

    def _check_pdb(self) -> None:
        if self.caps.ace or self.caps.nme:
            raise ValueError("caps can be added to a sequence only; put them into the PDB file")
        if self.starts != {PDB_START: PDB_START}:
            raise ValueError("a system from a PDB file starts from that file; leave 'starts' out")

    @property
    def hamiltonian(self) -> str:
        """A short name of force field and solvent, such as ``amber14/protein.ff14SB+gbn2``."""
        parts = [str(PurePosixPath(file).with_suffix("")) for file in self.force_field]
        if self.solvent != "none":
            parts.append(self.solvent)
        if self.cutoff_nm is not None:
            parts.append(f"cutoff-{self.cutoff_nm:g}nm")
        return "+".join(parts)

    @property
    def force_field_files(self) -> tuple[str, ...]:
        """All files that OpenMM reads, the solvent's among them."""
        return self.force_field + SOLVENT_FILES[self.solvent]
