"""What the commands that generate read, and how they write what they made."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajgen import __version__
from trajgen.cli.options import device_of, overrides
from trajgen.cli.output import provenance, say_whole
from trajgen.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from trajgen.data.records import AtomFrames, BeadFrames, Rollouts
    from trajgen.surrogate.completing import RolloutSettings
    from trajgen.surrogate.surrogate import Surrogate
    from trajgen.work_folder import WorkFolder


def open_surrogate(
    model: Path,
    structure: Path | None,
    config: Path | None,
    sets: list[str] | None,
    temperature: float | None,
    device: str,
) -> "tuple[Surrogate, RolloutSettings]":
    """Read a checkpoint, of the molecule of a structure where it has several, and settings."""
    from trajgen.data.structures import holds_topology
    from trajgen.settings import load_settings
    from trajgen.surrogate.checkpoints import load_surrogate
    from trajgen.surrogate.completing import RolloutSettings

    flags = [*(sets or []), *overrides(temperature_K=temperature)]
    settings = load_settings(RolloutSettings, config, flags)
    if structure is not None and not holds_topology(structure):
        structure = None
    return load_surrogate(model, device_of(device), structure), settings


def read_start(path: Path, surrogate: "Surrogate") -> "np.ndarray":
    """Read conformations to begin with: a structure, or a file of several."""
    from trajgen.data.readers import read_sites, read_starts
    from trajgen.data.topology import BeadTopology

    topology = surrogate.topology
    if isinstance(topology, BeadTopology):
        return read_starts(path, topology)
    return read_sites(path, topology)[None]


def read_known(
    path: Path, topology: Path | None, surrogate: "Surrogate"
) -> "BeadFrames | AtomFrames":
    """Read one trajectory of what the surrogate moves, in its order of atoms."""
    from dataclasses import replace

    from trajgen.data.readers import places_of
    from trajgen.data.records import join_chunks
    from trajgen.data.sources import open_samples, read_trajectory
    from trajgen.data.topology import BeadTopology

    wanted = surrogate.topology
    if isinstance(wanted, BeadTopology):
        beads = read_trajectory(path, topology or wanted)
        wanted.require_same(beads.topology, "the surrogate", str(path))
        _require_one(beads.segments, path)
        return beads
    chunks: list[Any] = list(open_samples([path], topology, "heavy").chunks())
    atoms = join_chunks(chunks)
    _require_one(atoms.segments, path)
    places = places_of(wanted, atoms.topology, path)
    return replace(atoms, topology=wanted, positions_nm=atoms.positions_nm[:, places], forces=None)


def _require_one(segments: "np.ndarray", path: Path) -> None:
    """Refuse several trajectories: the end of one is not followed by the begin of the next."""
    if (runs := len(set(segments.tolist()))) > 1:
        raise InputError(f"{path} has {runs} trajectories; give one of them")


def read_end(
    path: Path,
    topology: Path | None,
    surrogate: "Surrogate",
    frames: int,
    lag_ps: float | None,
) -> "tuple[np.ndarray, float]":
    """Read the last frames of a trajectory as one start, and the time between them."""
    run = read_known(path, topology, surrogate)
    own_ps = run.time_step_ps
    if lag_ps is None and own_ps is None:
        raise InputError(f"{path} does not say how far its frames are apart; add --lag-ps")
    if lag_ps is not None and own_ps is not None and abs(lag_ps / own_ps - 1) > 1e-3:
        raise InputError(
            f"--lag-ps is {lag_ps:g}, but the frames of {path} are {own_ps:g} ps apart; leave "
            "--lag-ps out, or give a trajectory of that interval"
        )
    return run.positions_nm[None, -frames:], float(lag_ps or own_ps or 0.0)


def interval_ps_of(asked_ps: float | None, frames: "BeadFrames | AtomFrames", path: Path) -> float:
    """Return the time between frames: what was asked, else what they say."""
    if asked_ps is not None and not 0 < asked_ps < math.inf:
        raise InputError(
            f"--interval-ps is {asked_ps:g}; wanted is a time above 0, in ps; leave it out where "
            f"{path} says how far its frames are apart"
        )
    interval_ps = frames.time_step_ps if asked_ps is None else asked_ps
    if interval_ps is None:
        raise InputError(f"{path} does not say how far its frames are apart; add --interval-ps")
    return interval_ps


def read_residues(text: str, count: int) -> "np.ndarray":
    """Return a mask of residues from numbers and ranges such as 1,4,6-9."""
    import numpy as np

    known = np.zeros(count, dtype=bool)
    for part in text.split(","):
        ends = part.strip().split("-")
        if not 1 <= len(ends) <= 2 or not all(end.strip().isdigit() for end in ends):
            raise InputError(f"--residues has '{part}'; wanted are numbers and ranges: 1,4,6-9")
        first, last = int(ends[0]), int(ends[-1])
        if not 1 <= first <= last <= count:
            raise InputError(f"--residues has '{part}', but residues are counted from 1 to {count}")
        known[first - 1 : last] = True
    return known


def digest_of(*inputs: "np.ndarray") -> str:
    """Return a digest of arrays."""
    digest = hashlib.sha256()
    for frames in inputs:
        digest.update(f"{frames.dtype} {frames.shape}".encode() + frames.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Request:
    """What a command was asked to generate.

    Attributes:
        task: its name.
        model: the checkpoint.
        surrogate: the model in it.
        settings: how windows are sampled.
        seed: base of the noise.
        values: all else that was asked, for the file beside the output.
        inputs: the frames that it begins with.
    """

    task: str
    model: Path
    surrogate: "Surrogate"
    settings: "RolloutSettings"
    seed: int
    values: dict[str, Any]
    inputs: "Sequence[np.ndarray]" = ()

    def provenance(self) -> dict[str, Any]:
        """Return what is said of it beside the output, also what was left to be chosen."""
        from trajgen.device import chosen_precision

        device = self.surrogate.device
        said = {k: str(v) if isinstance(v, Path) else v for k, v in self.values.items()}
        said |= self.settings.model_dump(mode="json")
        said["temperature_K"] = self.settings.chosen_temperature_K(self.surrogate)
        said["restart"] = self.settings.for_task(self.surrogate, self.task).restart
        said["precision"] = chosen_precision(self.settings.precision, device)
        made = provenance(f"generate {self.task}", self.model, self.seed, said)
        return {**made, "device": device.type}

    def identity(self) -> dict[str, Any]:
        """Return what the result follows from."""
        said = self.provenance()
        return {
            "trajgen_version": __version__,
            "device": said["device"],
            "task": self.task,
            "surrogate": said["model_sha256"],
            "sequence": self.surrogate.beads.sequence,
            "inputs": digest_of(*self.inputs),
            "settings": said["settings"],
            "seed": self.seed,
        }


def generate_to_file(
    out: Path,
    chains: int,
    request: Request,
    run: "Callable[[WorkFolder], tuple[Rollouts, dict[str, Any]]]",
) -> None:
    """Generate chains and write them to ``out``; a killed command goes on with what is there.

    Args:
        out: the output.
        chains: how many chains it will have.
        request: what was asked.
        run: generates the chains in a work folder, and says more for the file beside the output.
    """
    from trajgen.data.writers import prepare_output, write_rollouts
    from trajgen.files import read_json
    from trajgen.work_folder import WorkFolder

    folder = WorkFolder(out, request.identity(), "generation")
    if not folder.finished:
        files = prepare_output(out, chains, request.surrogate.topology)
        rollouts, more = run(folder)
        said = request.provenance()
        said["settings"] = {"lag_ps": rollouts.time_step_ps, **said["settings"], **more}
        with folder.publishing(files):
            write_rollouts(out, rollouts, said)
    folder.remove()
    card = read_json(out.with_suffix(".json"))
    whole = sum(count == card["frames"] for count in card["frames_alive"])
    lost = card["chains"] * card["frames"] - sum(card["frames_alive"])
    say_whole(card["chains"], card["chains"] - whole, lost)
