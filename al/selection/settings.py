"""How frames are chosen."""

from typing import Literal

from pydantic import Field

from trajgen.settings import Settings

Rule = Literal["rmsd-min", "rmsd-hist", "rmsd-gap", "random"]


class SelectionSettings(Settings):
    """How frames are chosen for the oracle.

    Attributes:
        rule: ``rmsd-min``: farthest from its nearest dataset frame first; ``rmsd-hist``: from the
            bins of the RMSD to a reference frame that the simulation fills more than the dataset;
            ``rmsd-gap``: the same with the RMSD to the nearest dataset frame; ``random``: the
            control.
        picks: number of frames to choose.
        share_picks: whether the generators choose in turn, so that each is asked about; else the
            highest scores win, whoever made them.
        bins: number of histogram bins of the two histogram rules.
        max_rmsd_nm: upper cutoff: a frame farther from the whole dataset is dropped.
        min_rg_ratio: a radius of gyration below this share of the dataset's smallest is imploded.
        bond_margin_nm: a bond may leave the range that it has in the dataset by this much. Beyond
            that the chain is broken, or a peptide bond has turned cis, which dynamics does not do
            on the time scale of a segment: the oracle would answer for another isomer.
        duplicate_nm: a frame nearer than this to one already chosen is a near-duplicate.
        max_candidates: more candidates than this are thinned by random draw, equally by source.
    """

    rule: Rule = "rmsd-min"
    picks: int = Field(default=16, ge=1)
    share_picks: bool = True
    bins: int = Field(default=50, ge=2)
    max_rmsd_nm: float = Field(default=0.6, gt=0)
    min_rg_ratio: float = Field(default=0.75, gt=0, le=1)
    bond_margin_nm: float = Field(default=0.02, ge=0)
    duplicate_nm: float = Field(default=0.05, ge=0)
    max_candidates: int = Field(default=20_000, ge=1)
