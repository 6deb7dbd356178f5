"""The selector: the rules of ``al.selection`` over candidates and dataset."""

import logging

from al.ports import Candidates, Selection
from al.selection.select import select_frames
from al.selection.settings import SelectionSettings
from trajgen.data.store import Dataset
from trajgen.seeding import derive_seed

logger = logging.getLogger(__name__)


class RuleSelector:
    """Chooses frames by the rule of the settings."""

    def __init__(self, settings: SelectionSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed

    def select(self, round: int, candidates: Candidates, dataset: Dataset) -> Selection:
        """Choose frames that the dataset does not cover."""
        picked = select_frames(
            candidates.frames,
            candidates.sources,
            dataset.read_all_beads(),
            self.settings,
            derive_seed(self.seed, "select", round),
        )
        logger.info(
            "%s chose %d of %d candidates; the others: %s",
            self.settings.rule,
            len(picked.chosen),
            candidates.frames.n_frames,
            picked.rejected,
        )
        return Selection(picked.chosen, picked.scores, picked.rejected)
