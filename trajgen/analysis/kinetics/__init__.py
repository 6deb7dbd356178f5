"""Kinetic measures of trajectories: states, rates, time scales and correlation times."""
