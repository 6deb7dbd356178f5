"""Dynamics of many chains with a potential: Langevin, overdamped, parallel tempering."""
