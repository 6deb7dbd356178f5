"""Settings of backmapping."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from trajgen.settings import Settings

#: Restraint strengths of successive stages.
Strengths = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


class PullSettings(Settings):
    """How atoms are pulled onto the target beads.

    Attributes:
        soft_kJ_per_mol_nm2: restraint strengths (k in k/2 r²) of the soft stages, in which atoms
            pass each other: a weak repulsion replaces all non-bonded forces.
        full_kJ_per_mol_nm2: restraint strengths of the later stages, in the full force field.
        stage_iterations: minimisation steps of each stage but the last at most.
        final_iterations: minimisation steps of the last stage at most.
        soft_beyond_nm: a known frame that is nearer to the target (bead RMSD) has no soft stages.
        annealing_steps: Langevin steps at the end of the soft stages, which shake side chains out
            of each other's way; 0 leaves them out.
        annealing_temperature_K: temperature of these steps.
        annealing_friction_per_ps: friction of these steps.
        annealing_step_ps: time step of these steps.
    """

    soft_kJ_per_mol_nm2: Strengths = (1e3, 1e4)
    full_kJ_per_mol_nm2: Strengths = (1e3, 5e3)
    stage_iterations: PositiveInt = 100
    final_iterations: PositiveInt = 150
    soft_beyond_nm: NonNegativeFloat = 0.05
    annealing_steps: NonNegativeInt = 300
    annealing_temperature_K: PositiveFloat = 300.0
    annealing_friction_per_ps: PositiveFloat = 5.0
    annealing_step_ps: PositiveFloat = 0.001


class CheckSettings(Settings):
    """What a backmapped frame has to be to be accepted.

    Attributes:
        max_bead_rmsd_nm: distance of its beads from the target, after superposition.
        min_heavy_distance_nm: distance of heavy atoms more than three bonds apart.
        max_strain_kJ_per_mol: potential energy in bonds and angles, a residue.
    """

    max_bead_rmsd_nm: PositiveFloat = 0.1
    min_heavy_distance_nm: PositiveFloat = 0.2
    max_strain_kJ_per_mol: PositiveFloat = 50.0


class BackmappingSettings(Settings):
    """How beads become atoms.

    Attributes:
        method: ``nearest`` pulls the nearest known all-atom frame onto the beads, ``pulchra``
            rebuilds the atoms from the beads alone; ``auto`` takes the atoms that the generator
            made where it made some, then ``nearest`` where there are all-atom frames, and
            ``pulchra`` where there are none or nothing else was accepted.
        pulchra_timeout_s: time limit of the ``pulchra`` program where one is on PATH.
    """

    method: Literal["auto", "nearest", "pulchra"] = "auto"
    pulchra_timeout_s: PositiveFloat = 60.0
    pull: PullSettings = PullSettings()
    checks: CheckSettings = CheckSettings()
