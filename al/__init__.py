"""al: the active-learning loop, everything all-atom, and every decision that spends budget."""
