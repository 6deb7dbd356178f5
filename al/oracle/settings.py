"""Settings of an oracle segment."""

from pydantic import Field, PositiveFloat

from trajgen.settings import Settings


class OracleSettings(Settings):
    """A short all-atom run from each accepted frame.

    Force matching needs the side chains in equilibrium at the given beads, and a backmapped frame
    has them where the minimiser left them. So the frame first relaxes with its alpha carbons
    held, and the stretch right after their release is not saved.

    Attributes:
        relax_ps: time with restrained alpha carbons.
        relax_friction_per_ps: friction meanwhile, above that of the system: it takes away the
            heat of contacts that give way.
        restraint_kJ_per_mol_nm2: strength k of the restraints k/2 r².
        release_ps: time without restraints before the saved part.
        ps: time that is saved; at least two lags of the surrogate.
        save_interval_ps: time between saved frames.
    """

    relax_ps: float = Field(2.0, ge=0)
    relax_friction_per_ps: PositiveFloat = 10.0
    restraint_kJ_per_mol_nm2: PositiveFloat = 1e4
    release_ps: float = Field(1.0, ge=0)
    ps: PositiveFloat = 20.0
    save_interval_ps: PositiveFloat = 1.0
