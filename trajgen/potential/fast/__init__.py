"""Energies and forces of a potential at fixed weights, compiled for the CPU."""
