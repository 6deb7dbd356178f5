"""Backmapping: from alpha-carbon beads to all atoms, with a labelled outcome for each frame."""
