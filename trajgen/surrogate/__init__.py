"""The generative surrogate: whole coarse-grained trajectories from a transformer and an ODE."""
