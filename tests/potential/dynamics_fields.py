"""Fields of force in the place of that of a fitted potential."""

from collections.abc import Callable

import numpy as np
import torch

K_B = 8.31446261815324e-3


class PairField:
    """Two beads in a potential with a density in closed form.

    U = b ((z/a)² - 1)² - tilt z/a + k (x² + y²)/2 of the vector between two beads.

    With a barrier b of zero it is harmonic in z as well, with the stiffness k.
    """

    def __init__(self, barrier: float, stiffness: float, well_nm: float = 0.15, tilt: float = 0.0):
        self.barrier, self.stiffness, self.well_nm, self.tilt = barrier, stiffness, well_nm, tilt

    def energy(self, d: torch.Tensor) -> torch.Tensor:
        across = 0.5 * self.stiffness * d[..., :2].square().sum(-1)
        z = d[..., 2]
        if self.barrier == 0:
            return across + 0.5 * self.stiffness * z.square()
        s = z / self.well_nm
        return across + self.barrier * (s.square() - 1).square() - self.tilt * s

    def slope(self, d: torch.Tensor) -> torch.Tensor:
        gradient = self.stiffness * d
        if self.barrier:
            s = d[..., 2] / self.well_nm
            gradient[..., 2] = (4 * self.barrier * s * (s.square() - 1) - self.tilt) / self.well_nm
        return gradient

    def __call__(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        d = positions[:, 1] - positions[:, 0]
        gradient = self.slope(d)
        return self.energy(d), torch.stack([gradient, -gradient], dim=1)

    def z_density(self, temperature_K: float) -> tuple[np.ndarray, np.ndarray]:
        """Return a grid of z and the probability of each point."""
        z = np.linspace(-0.4, 0.4, 4_001)
        d = torch.zeros(len(z), 3, dtype=torch.float64)
        d[:, 2] = torch.from_numpy(z)
        weights = np.exp(-self.energy(d).numpy() / (K_B * temperature_K))
        return z, weights / weights.sum()

    def mean(self, function, temperature_K: float) -> float:
        """Return the mean of a function of z."""
        z, p = self.z_density(temperature_K)
        return float((function(z) * p).sum())


def pair_starts(chains: int, z_nm: np.ndarray) -> np.ndarray:
    """Return pairs of beads along z, centred."""
    starts = np.zeros((chains, 2, 3), dtype=np.float32)
    starts[:, 1, 2] = z_nm / 2
    starts[:, 0, 2] = -z_nm / 2
    return starts


def z_of(positions_nm: np.ndarray) -> np.ndarray:
    """Return z of chains x frames."""
    return (positions_nm[..., 1, 2] - positions_nm[..., 0, 2]).astype(float)


class Poisoned:
    """A field that pulls one chain apart with what one evaluation says of it."""

    def __init__(
        self,
        field: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
        chain: int,
        evaluation: int,
        force: float,
    ) -> None:
        self.field, self.chain, self.force = field, chain, force
        self.left = evaluation
        self.longest_nm = 0.0

    def __call__(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = torch.linalg.vector_norm(positions.diff(dim=1), dim=-1)
        assert lengths.isfinite().all()
        self.longest_nm = max(self.longest_nm, lengths.max().item())
        energies, forces = self.field(positions)
        self.left -= 1
        if self.left == 0:
            forces[self.chain, -1] += self.force
        return energies, forces
