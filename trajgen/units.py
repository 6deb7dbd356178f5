"""Canonical units (nm, ps, kJ/mol, amu, K, radian) and the few conversions into them.

In these units a force in kJ/mol/nm divided by a mass in amu is an acceleration in nm/ps².
"""

from trajgen.errors import InputError

#: Boltzmann constant, kJ/mol/K (CODATA 2018: 1.380649e-23 J/K times 6.02214076e23 /mol).
BOLTZMANN_KJ_PER_MOL_K = 8.31446261815324e-3

LENGTH_IN_NM = {"nm": 1.0, "angstrom": 0.1}
ENERGY_IN_KJ_PER_MOL = {"kJ/mol": 1.0, "kcal/mol": 4.184}


def length_factor(unit: str) -> float:
    """Return the factor that turns a length in ``unit`` into nm.

    Raises:
        InputError: the unit is not known.
    """
    return _factor(unit, LENGTH_IN_NM, "length unit")


def energy_factor(unit: str) -> float:
    """Return the factor that turns an energy in ``unit`` into kJ/mol.

    Raises:
        InputError: the unit is not known.
    """
    return _factor(unit, ENERGY_IN_KJ_PER_MOL, "energy unit")


def force_factor(energy_unit: str, length_unit: str) -> float:
    """Return the factor that turns a force in ``energy_unit / length_unit`` into kJ/mol/nm."""
    return energy_factor(energy_unit) / length_factor(length_unit)


def thermal_energy(temperature_K: float) -> float:
    """Return kT in kJ/mol at a temperature in kelvin."""
    return BOLTZMANN_KJ_PER_MOL_K * temperature_K


def _factor(unit: str, known: dict[str, float], what: str) -> float:
    if unit not in known:
        raise InputError(f"{what} '{unit}' is not known; use one of {', '.join(known)}")
    return known[unit]
