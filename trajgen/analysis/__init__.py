"""Measures of trajectories against a reference, and the report."""
