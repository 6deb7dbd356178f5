"""A potential at fixed weights on the CPU, many times faster than its plain path."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trajgen.errors import InputError
from trajgen.potential.fast.candidates import DENSE_BEADS, AllPairs, NeighbourLists
from trajgen.potential.fast.chain_priors import chain_priors
from trajgen.potential.fast.evaluate import evaluate
from trajgen.potential.fast.matrix_product import OneBlasThread, sgemm_address
from trajgen.potential.fast.network_arrays import network_arrays
from trajgen.potential.fast.pairs import Grid
from trajgen.potential.fast.repulsion import repulsion_strengths
from trajgen.potential.potential import Potential
from trajgen.potential.priors import REPULSION_RANGE_NM

#: Beads of the chains that are evaluated together: their activations stay in the cache of a core.
_BEADS_PER_BLOCK = 320


class FastPotential:
    """Energies and forces of a potential, in float32 on the CPU.

    The plain path, ``Potential.energy_and_forces``, is its twin: forces of both agree to 1e-4 of
    their norm or better. Weights are those at the time of ``build`` or ``update``.
    """

    def __init__(self, potential: Potential) -> None:
        self._n_beads = potential.topology.n_beads
        self._sgemm, self._one_thread = sgemm_address(), OneBlasThread()
        self._pool = ThreadPoolExecutor()  # its threads start when they are asked for
        self.update(potential)

    @classmethod
    def build(cls, potential: Potential) -> "FastPotential":
        """Return the fast path of a potential; the potential may be on any device."""
        return cls(potential)

    def update(self, potential: Potential) -> None:
        """Take new weights and priors of the same molecule.

        Raises:
            InputError: the potential is of another number of beads.
        """
        if potential.topology.n_beads != self._n_beads:
            raise InputError(
                f"potential has {potential.topology.n_beads} beads, the fast path was built for "
                f"{self._n_beads}; build another with FastPotential.build"
            )
        networks = potential.member_networks()
        settings = potential.settings.network
        self._networks = network_arrays(networks)
        self._priors = chain_priors(potential.priors)
        # The twist is that of the runs of three bonds, which are the dihedrals.
        self._runs = self._priors.dihedrals
        strengths = repulsion_strengths(potential.priors.repulsion, self._n_beads)
        self._candidates: AllPairs | NeighbourLists = (
            AllPairs(strengths)
            if self._n_beads <= DENSE_BEADS
            else NeighbourLists(max(settings.cutoff_nm, REPULSION_RANGE_NM), strengths)
        )
        knots = self._networks.tables.shape[2]
        self._grid = Grid(settings.cutoff_lower_nm, settings.cutoff_nm, knots)

    def energy_and_forces(
        self, positions_nm: Float[Tensor, "frames beads 3"]
    ) -> tuple[Float[Tensor, " frames"], Float[Tensor, "frames beads 3"]]:
        """Return the energy, kJ/mol, and the forces, kJ/mol/nm, in float32.

        Chains do not touch each other; one with a coordinate that is not finite gets NaN. As many
        threads work as torch has.

        Raises:
            InputError: the positions are not float32 on the CPU, or of another number of beads.
        """
        self._check(positions_nm)
        x = positions_nm.detach().contiguous().numpy()
        energies, forces = np.empty(len(x), np.float32), np.empty_like(x)
        per_block = _chains_per_block(*x.shape[:2])
        candidates = self._candidates.find(x)
        threads = max(min(torch.get_num_threads(), -(-len(x) // per_block)), 1)

        def work(thread: int) -> None:
            evaluate(
                x, thread, threads, per_block, self._networks, self._priors, self._runs,
                self._grid, candidates, self._sgemm, energies, forces,
            )  # fmt: skip

        with self._one_thread:
            others = [self._pool.submit(work, thread) for thread in range(1, threads)]
            work(0)
            for other in others:
                other.result()
        return torch.from_numpy(energies), torch.from_numpy(forces)

    def _check(self, positions_nm: Tensor) -> None:
        wanted = (self._n_beads, 3)
        if positions_nm.ndim != 3 or positions_nm.shape[1:] != wanted:
            raise InputError(
                f"positions_nm has shape {tuple(positions_nm.shape)}; wanted is (frames, "
                f"{self._n_beads}, 3)"
            )
        if positions_nm.dtype != torch.float32 or positions_nm.device.type != "cpu":
            raise InputError(
                f"positions_nm is {positions_nm.dtype} on {positions_nm.device}; the fast path "
                "takes torch.float32 on the CPU, use the potential itself for anything else"
            )


def _chains_per_block(frames: int, beads: int) -> int:
    """Return how many chains are evaluated together; few chains still make blocks for threads.

    It depends on the numbers of chains and beads alone, never on the number of threads.
    """
    most = max(_BEADS_PER_BLOCK // beads, 1)
    return max(min(1 << (most.bit_length() - 1), -(-frames // 4)), 1)
