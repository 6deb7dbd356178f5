"""Bonds, angles and dihedrals of one chain: energy and forces in double precision.

Angles enter by their cosine and dihedrals by cosine and sine, so no angle is ever computed.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from trajgen.potential.fast.compiling import kernel
from trajgen.potential.priors import DAMPED_SINE_SQUARE, Priors

#: Below this |n₁|² |n₂|² a dihedral is undefined and has no force, as in ``geometry.internal``.
_TINY = float(np.finfo(np.float64).tiny)


class ChainPriors(NamedTuple):
    """The bonded terms: beads, and parameters in nm, kJ/mol and radian.

    Attributes:
        bonds: beads of the bonds.
        bond_terms: stiffness and length.
        angles: beads of the angles.
        angle_terms: stiffness and cosine.
        dihedrals: beads of the dihedrals.
        dihedral_terms: A₁ cos δ₁, A₁ sin δ₁, A₂ cos δ₂, A₂ sin δ₂ and A₁ + A₂.
    """

    bonds: Int64[np.ndarray, "bonds 2"]
    bond_terms: Float64[np.ndarray, "bonds 2"]
    angles: Int64[np.ndarray, "angles 3"]
    angle_terms: Float64[np.ndarray, "angles 2"]
    dihedrals: Int64[np.ndarray, "dihedrals 4"]
    dihedral_terms: Float64[np.ndarray, "dihedrals 5"]


def chain_priors(priors: Priors) -> ChainPriors:
    """Return the bonded terms of the priors."""
    bond, angle, dihedral = priors.bond, priors.angle, priors.dihedral
    amplitude, phase_rad = _array(dihedral.amplitude), _array(dihedral.phase_rad)
    series = np.stack([amplitude * np.cos(phase_rad), amplitude * np.sin(phase_rad)], axis=2)
    return ChainPriors(
        bonds=bond.pairs.cpu().numpy(),
        bond_terms=np.stack([_array(bond.stiffness), _array(bond.length_nm)], axis=1),
        angles=angle.triples.cpu().numpy(),
        angle_terms=np.stack([_array(angle.stiffness), _array(angle.cosine)], axis=1),
        dihedrals=dihedral.quadruples.cpu().numpy(),
        dihedral_terms=np.concatenate(
            [series.reshape(len(series), 4), amplitude.sum(axis=1, keepdims=True)], axis=1
        ),
    )


def _array(parameters: Tensor) -> np.ndarray:
    return parameters.detach().to("cpu", torch.float64).numpy()


@kernel
def _between(x: np.ndarray, i: int, j: int) -> tuple[float, float, float]:
    return x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]


@kernel
def dot(u: tuple[float, float, float], v: tuple[float, float, float]) -> float:
    """Return the scalar product."""
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


@kernel
def cross(
    u: tuple[float, float, float], v: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Return the vector product."""
    return u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]


@kernel
def _inverse(square: float) -> float:
    return 1 / math.sqrt(square) if square != 0 else 0.0


@kernel
def add_chain_priors(
    x: Float64[np.ndarray, "beads 3"], terms: ChainPriors, forces: Float64[np.ndarray, "beads 3"]
) -> float:
    """Add the forces of the bonded terms and return their energy, kJ/mol."""
    energy = 0.0
    for term in range(terms.bonds.shape[0]):
        energy += _add_bond(x, terms.bonds[term], terms.bond_terms[term], forces)
    for term in range(terms.angles.shape[0]):
        energy += _add_angle(x, terms.angles[term], terms.angle_terms[term], forces)
    for term in range(terms.dihedrals.shape[0]):
        energy += _add_dihedral(x, terms.dihedrals[term], terms.dihedral_terms[term], forces)
    return energy


@kernel
def _add_bond(x: np.ndarray, beads: np.ndarray, term: np.ndarray, forces: np.ndarray) -> float:
    i, j = beads[0], beads[1]
    u = _between(x, i, j)
    square = dot(u, u)
    away = math.sqrt(square) - term[1]
    pull = term[0] * away * _inverse(square)
    for axis in range(3):
        forces[i, axis] += pull * u[axis]
        forces[j, axis] -= pull * u[axis]
    return 0.5 * term[0] * away * away


@kernel
def _add_angle(x: np.ndarray, beads: np.ndarray, term: np.ndarray, forces: np.ndarray) -> float:
    i, j, k = beads[0], beads[1], beads[2]
    u, v = _between(x, j, i), _between(x, j, k)
    inverse_u, inverse_v = _inverse(dot(u, u)), _inverse(dot(v, v))
    # Of coincident beads the angle is zero, and without a force.
    defined = inverse_u * inverse_v != 0
    cosine = dot(u, v) * inverse_u * inverse_v if defined else 1.0
    away = cosine - term[1]
    slope = term[0] * away if defined else 0.0
    for axis in range(3):
        e, f = u[axis] * inverse_u, v[axis] * inverse_v
        on_i = slope * (f - cosine * e) * inverse_u
        on_k = slope * (e - cosine * f) * inverse_v
        forces[i, axis] -= on_i
        forces[k, axis] -= on_k
        forces[j, axis] += on_i + on_k
    return 0.5 * term[0] * away * away


@kernel
def _damping(
    u: tuple[float, float, float], v: tuple[float, float, float], normal_square: float
) -> tuple[float, float]:
    """Return the damping of a bond angle, and its slope by the square of the sine."""
    q = normal_square / (dot(u, u) * dot(v, v) * DAMPED_SINE_SQUARE)
    if q >= 1:
        return 1.0, 0.0
    return q * q * (3 - 2 * q), 6 * q * (1 - q) / DAMPED_SINE_SQUARE


@kernel
def _add_sine_square(
    x: np.ndarray, i: int, j: int, k: int, factor: float, forces: np.ndarray
) -> None:
    """Add the forces of ``factor`` sin² θ of the angle between the steps i to j and j to k."""
    u, v = _between(x, i, j), _between(x, j, k)
    inverse_u, inverse_v = _inverse(dot(u, u)), _inverse(dot(v, v))
    cosine = dot(u, v) * inverse_u * inverse_v
    for axis in range(3):
        e, f = u[axis] * inverse_u, v[axis] * inverse_v
        by_u = -2 * cosine * factor * (f - cosine * e) * inverse_u
        by_v = -2 * cosine * factor * (e - cosine * f) * inverse_v
        forces[i, axis] += by_u
        forces[j, axis] += by_v - by_u
        forces[k, axis] -= by_v


@kernel
def _add_dihedral(x: np.ndarray, beads: np.ndarray, term: np.ndarray, forces: np.ndarray) -> float:
    """Gradient of the angle: Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996)."""
    i, j, k, m = beads[0], beads[1], beads[2], beads[3]
    first, middle, last = _between(x, i, j), _between(x, j, k), _between(x, k, m)
    normal_1, normal_2 = cross(first, middle), cross(middle, last)
    square_1, square_2 = dot(normal_1, normal_1), dot(normal_2, normal_2)
    if square_1 * square_2 <= _TINY:
        return term[4]
    damping_1, bent_1 = _damping(first, middle, square_1)
    damping_2, bent_2 = _damping(middle, last, square_2)
    damping = damping_1 * damping_2
    length = math.sqrt(dot(middle, middle))
    inverse = 1 / math.sqrt(square_1 * square_2)
    cosine = dot(normal_1, normal_2) * inverse
    sine = length * dot(first, normal_2) * inverse
    cosine_2, sine_2 = cosine * cosine - sine * sine, 2 * sine * cosine
    slope = term[1] * cosine - term[0] * sine + 2 * (term[3] * cosine_2 - term[2] * sine_2)
    slope *= damping
    before = dot(first, middle) / (square_1 * length)
    after = dot(last, middle) / (square_2 * length)
    for axis in range(3):
        on_i = -length / square_1 * normal_1[axis]
        on_m = length / square_2 * normal_2[axis]
        inner = before * normal_1[axis] + after * normal_2[axis]
        forces[i, axis] -= slope * on_i
        forces[j, axis] -= slope * (inner - on_i)
        forces[k, axis] += slope * (inner + on_m)
        forces[m, axis] -= slope * on_m
    series = term[0] * cosine + term[1] * sine + term[2] * cosine_2 + term[3] * sine_2
    if bent_1 != 0:
        _add_sine_square(x, i, j, k, series * bent_1 * damping_2, forces)
    if bent_2 != 0:
        _add_sine_square(x, j, k, m, series * bent_2 * damping_1, forces)
    return term[4] + damping * series
