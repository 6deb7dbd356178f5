"""Bad input, a full disk, missing rights: one sentence, the right code, nothing half-written."""

import errno
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from command import Outcome, succeed, trajgen
from safetensors import SafetensorError
from tiny import FIT, TRAIN, Made, write_arrays

from trajgen.data import store, writers

pytestmark = pytest.mark.usefixtures("no_shape_checks")


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refuse(folder: Path, *arguments: object, code: int = 2) -> str:
    """Run a command that must fail with one sentence and leave the folder as it was."""
    before = everything(folder)
    outcome: Outcome = trajgen(*arguments)
    assert outcome.code == code, outcome.err
    assert everything(folder) == before
    return outcome.error


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Made:
    """A copy of all that was made, to be damaged."""
    shutil.copytree(made.dataset.parent, tmp_path / "made")
    arrays = type(made.arrays)(
        *(tmp_path / "made" / f"{n}.npy" for n in ("coords", "forces", "weights", "segments"))
    )
    paths = (tmp_path / "made" / name for name in ("D", "POTENTIAL", "MODEL"))
    return Made(arrays, *paths)


def simulation(made: Made, out: Path, *more: object) -> list[object]:
    return ["simulate", made.potential, "--dataset", made.dataset, "--chains", 2, "--steps", 120,
            "--save-every", 1, "--device", "cpu", "--out", out, *more]  # fmt: skip


# --- what the user gave ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["fit", "D"], ["simulate", "P"], ["generate", "ensemble", "M", "--frames", 2]]
)
def test_a_negative_seed(tmp_path: Path, command: list[object]) -> None:
    said = refuse(tmp_path, *command, "--out", tmp_path / "new.npz", "--seed", -1)
    assert said == "--seed is -1; wanted is a whole number of 0 or more"


def test_a_nan_in_bead_coordinates(copy: Made, tmp_path: Path) -> None:
    coords = np.load(copy.arrays.coords)
    coords[17, 2, 1] = np.nan
    np.save(copy.arrays.coords, coords)
    said = refuse(tmp_path, "import", *copy.arrays.flags(), "--out", tmp_path / "new")
    assert "coords.npy: positions have a NaN" in said
    assert "first in frame 17" in said


def test_a_nan_in_an_atom_trajectory(tmp_path: Path, shared_data: Path) -> None:
    structure = shared_data / "fastfolder_pdb" / "chignolin_cln025.pdb"
    trajectory = mdtraj.load(str(structure))
    trajectory = mdtraj.join([trajectory] * 5)
    trajectory.unitcell_vectors = None
    trajectory.xyz[3, 40] = np.nan
    trajectory.save(str(tmp_path / "md.dcd"))
    said = refuse(
        tmp_path, "import", tmp_path / "md.dcd", "--topology", structure, "--temperature", 300,
        "--out", tmp_path / "new",
    )  # fmt: skip
    assert "md.dcd: positions have a NaN" in said
    assert "first in frame 3" in said


@pytest.mark.parametrize("name", ["forces", "weights", "segments"])
def test_arrays_of_another_length_than_the_positions(copy: Made, tmp_path: Path, name: str) -> None:
    path = getattr(copy.arrays, name)
    np.save(path, np.load(path)[:-1])
    said = refuse(tmp_path, "import", *copy.arrays.flags(), "--out", tmp_path / "new")
    assert f"{name} have shape (239" in said


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--sequence", "GYDPB", "'B' at position 5"),
        ("--sequence", "GYDP", "4 residues"),
        ("--length-unit", "furlong", "'length_unit' is 'furlong'"),
        ("--length-unit", "angstrom", "check --length-unit"),
        ("--energy-unit", "eV", "'energy_unit' is 'eV'"),
        ("--temperature", "-3", "'temperature_K' is -3"),
        ("--coords", "none.npy", "none.npy is missing"),
        ("--set", "hamiltonain=x", "'hamiltonain' is not a setting"),
    ],
)
def test_a_wrong_flag_of_import(
    made: Made, tmp_path: Path, flag: str, value: str, said: str
) -> None:
    flags = [*made.arrays.flags(), "--out", tmp_path / "new", flag, value]
    assert said in refuse(tmp_path, "import", *flags)


def test_neither_or_both_kinds_of_input(made: Made, tmp_path: Path) -> None:
    out = ("--temperature", 300, "--out", tmp_path / "new")
    assert "give either trajectories" in refuse(tmp_path, "import", *out)
    both = refuse(tmp_path, "import", "md.xtc", "--coords", made.arrays.coords, *out)
    assert "give either trajectories" in both
    assert "add --topology" in refuse(tmp_path, "import", "md.xtc", *out)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--topology", "top.pdb"), "--topology top.pdb is for trajectories"),
        (("--resolution", "heavy"), "resolution is heavy"),
    ],
)
def test_flags_of_trajectories_beside_bead_coordinates(
    tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    arrays = write_arrays(tmp_path)
    assert said in refuse(tmp_path, "import", *arrays.flags(), *flags, "--out", tmp_path / "new")


@pytest.mark.parametrize("command", ["fit", "train"])
def test_an_unknown_setting_is_named_with_its_path(
    made: Made, tmp_path: Path, command: str
) -> None:
    base = [command, made.dataset, "--out", tmp_path / "new"]
    said = refuse(tmp_path, *base, "--set", "training.stepz=3")
    assert "'training.stepz' is not a setting" in said
    assert "steps" in said
    config = tmp_path / "a.yaml"
    config.write_text("training:\n  batch: {size: 3}\n  stepz: 3\n")
    assert "a.yaml: 'training." in refuse(tmp_path, *base, "--config", config)
    assert "not of the form" in refuse(tmp_path, *base, "--set", "training.steps")
    assert "device 'tpu' is not known" in refuse(tmp_path, *base, "--device", "tpu")


def other_molecule(made: Made, tmp_path: Path) -> Path:
    flags = made.arrays.flags()
    flags[flags.index("--sequence") + 1] = "AAAAA"
    succeed("import", *flags, "--out", tmp_path / "other")
    return tmp_path / "other"


def test_a_dataset_of_another_molecule_than_the_model(made: Made, tmp_path: Path) -> None:
    other = other_molecule(made, tmp_path)
    said = refuse(
        tmp_path, "simulate", made.potential, "--dataset", other, "--out", tmp_path / "new.npz"
    )
    assert "is of GYDPE (5 beads), but dataset" in said
    assert "is of AAAAA" in said


def test_a_structure_of_another_molecule_than_the_model(
    made: Made, tmp_path: Path, shared_data: Path
) -> None:
    start = shared_data / "fastfolder_pdb" / "chignolin_1uao.pdb"
    said = refuse(
        tmp_path, "generate", "forward", made.surrogate, "--start", start, "--frames", 4,
        "--out", tmp_path / "new.xtc",
    )  # fmt: skip
    assert "was trained on GYDPE alone" in said
    assert "chignolin_1uao.pdb is of GYDPETGTWG" in said


def test_a_trajectory_of_another_molecule_than_the_reference(made: Made, tmp_path: Path) -> None:
    other = other_molecule(made, tmp_path)
    said = refuse(
        tmp_path, "evaluate", other, "--reference", made.dataset, "--out", tmp_path / "new"
    )
    assert "GYDPE" in said
    assert "AAAAA" in said


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_checkpoint_that_was_cut(copy: Made, tmp_path: Path, share: float) -> None:
    for model in (copy.potential, copy.surrogate):
        weights = model / "model.safetensors"
        content = weights.read_bytes()
        weights.write_bytes(content[: int(share * len(content))])
        assert "is damaged" in refuse(tmp_path, "info", model)
    said = refuse(tmp_path, *simulation(copy, tmp_path / "new.npz"))
    assert "POTENTIAL is damaged" in said
    said = refuse(
        tmp_path, "generate", "forward", copy.surrogate, "--start", "a.pdb", "--frames", 4,
        "--out", tmp_path / "new.npz",
    )  # fmt: skip
    assert "MODEL is damaged" in said


def test_a_model_of_the_other_kind(made: Made, tmp_path: Path) -> None:
    swapped = Made(made.arrays, made.dataset, made.surrogate, made.potential)
    said = refuse(tmp_path, *simulation(swapped, tmp_path / "new.npz"))
    assert "is a surrogate; a potential is wanted" in said


def test_a_damaged_dataset(copy: Made, tmp_path: Path) -> None:
    (shard,) = (copy.dataset / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:5000])
    assert "is damaged" in refuse(tmp_path, "info", copy.dataset)
    for command in ("fit", "train"):
        said = refuse(tmp_path, command, copy.dataset, "--out", tmp_path / "new")
        assert "is damaged" in said


def test_a_trajectory_without_its_topology(made: Made, tmp_path: Path) -> None:
    (tmp_path / "a.xtc").write_bytes(b"")
    base = ["--reference", made.dataset, "--out", tmp_path / "new"]
    assert "add --topology" in refuse(tmp_path, "evaluate", tmp_path / "a.xtc", *base)


@pytest.mark.parametrize("command", ["import", "fit", "train", "simulate", "evaluate"])
def test_what_exists_is_never_replaced(copy: Made, tmp_path: Path, command: str) -> None:
    taken = tmp_path / "taken.npz"
    if command == "simulate":
        taken.write_text("precious")
    else:
        taken.mkdir()
        (taken / "precious").write_text("data")
    arguments = {
        "import": ["import", *copy.arrays.flags(), "--out", taken],
        "fit": ["fit", copy.dataset, "--out", taken],
        "train": ["train", copy.dataset, "--out", taken],
        "simulate": simulation(copy, taken),
        "evaluate": ["evaluate", copy.dataset, "--reference", copy.dataset, "--out", taken],
    }[command]
    assert "taken.npz exists already" in refuse(tmp_path, *arguments)


# --- what cannot be generated ------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A model that designs too, and what it is asked of."""

    model: Path
    start: Path
    end: Path
    run: Path

    def to(self, task: str, out: Path) -> list[object]:
        """Return a request that is met unless more is asked."""
        known = ("--known", self.run, "--topology", self.start, "--residues", "1,3-4",
                 "--interval-ps", 2)  # fmt: skip
        more: dict[str, tuple[object, ...]] = {
            "forward": ("--start", self.start, "--frames", 4),
            "interpolate": ("--from", self.start, "--to", self.end, "--frames", 4),
            "upsample": ("--input", self.run, "--topology", self.start, "--factor", 2,
                         "--interval-ps", 4),
            "inpaint": known,
            "design": (*known, "--samples", 2),
            "ensemble": ("--structure", self.start, "--frames", 2),
        }  # fmt: skip
        return ["generate", task, self.model, "--device", "cpu", "--out", out, *more[task]]


@pytest.fixture(scope="module")
def asked(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("asked")
    asked = Asked(*(folder / name for name in ("MODEL", "a.pdb", "b.pdb", "run.npz")))
    sets = [part for value in (*TRAIN, "tasks.design=1") for part in ("--set", value)]
    other = other_molecule(made, folder)
    succeed("train", made.dataset, other, "--out", asked.model, "--device", "cpu", *sets)
    for seed, out in enumerate((asked.start, asked.end, asked.run)):
        one = ["--dataset", made.dataset, "--chains", 1, "--seed", seed, "--device", "cpu"]
        frames = ["--steps", 20, "--save-every", 5]
        succeed("simulate", made.potential, *one, *frames, "--out", out)
    return asked


GENERATED = ("forward", "interpolate", "upsample", "inpaint", "design", "ensemble")
TOO_HOT = ("--temperature", 900, "temperature_K is 900, but the surrogate was trained at 300 K")
NOT_COMPILED = ("--set", "compile=true", "compile needs a C++ compiler")
REFUSED = [(task, *TOO_HOT) for task in GENERATED]
REFUSED += [(task, *NOT_COMPILED) for task in GENERATED]
REFUSED += [(task, "--temperature", "nan", "'temperature_K' is") for task in GENERATED]
REFUSED += [
    (task, "--lag-ps", value, f"lag_ps is {float(value):g}, but the surrogate was trained")
    for task in ("forward", "interpolate")
    for value in ("nan", "inf", "0", "-1", "50")
]
REFUSED += [
    (task, "--interval-ps", value, f"--interval-ps is {float(value):g}; wanted is a time above 0")
    for task in ("upsample", "inpaint", "design")
    for value in ("nan", "inf", "0", "-1")
]
REFUSED += [
    ("upsample", "--interval-ps", "50", "lag_ps is 25, but the surrogate was trained"),
    ("inpaint", "--interval-ps", "50", "lag_ps is 50, but the surrogate was trained"),
    ("design", "--interval-ps", "50", "lag_ps is 50, but the surrogate was trained"),
    ("forward", "--frames", "1", "frames is 1; wanted are at least 2"),
    ("forward", "--replicas", "0", "chains is 0; wanted is at least 1"),
    ("interpolate", "--frames", "2", "a path of 2 frames has none between its ends"),
    ("interpolate", "--frames", "400", "a gap needs frames"),
    ("interpolate", "--paths", "0", "paths is 0; wanted is at least 1"),
    ("interpolate", "--set", "context=3", "which leaves none to generate"),
    ("upsample", "--factor", "101", "factor is 101; wanted is 2 to 100"),
    ("upsample", "--set", "context=3", "which leaves none to generate"),
    ("inpaint", "--residues", "1", "1 of 5 residues are known"),
    ("inpaint", "--replicas", "0", "replicas is 0"),
    ("design", "--residues", "1", "1 of 5 residues are known"),
    ("design", "--samples", "0", "samples is 0"),
    ("ensemble", "--frames", "0", "frames is 0; wanted is at least 1"),
]


@pytest.mark.parametrize(("task", "flag", "value", "said"), REFUSED)
def test_a_refused_generation_leaves_no_folder(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    task: str, flag: str, value: object, said: str,
) -> None:  # fmt: skip
    """One that were left would stand in the way of the same command, mended."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    out = tmp_path / ("new.json" if task == "design" else "new.npz")
    assert said in refuse(tmp_path, *asked.to(task, out), flag, value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", GENERATED)
def test_a_generation_that_is_not_refused(asked: Asked, tmp_path: Path, task: str) -> None:
    """The requests that the cases above spoil are whole without that."""
    out = tmp_path / ("new.json" if task == "design" else "new.npz")
    succeed(*asked.to(task, out))
    assert out.is_file()


# --- the disk ----------------------------------------------------------------------------------


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let the kernel refuse every byte of a file beyond ``size``, as a full disk does."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("suffix", [".npz", ".xtc", ".trr", ".dcd", ".nc", ".pdb"])
def test_a_disk_that_is_full_while_a_trajectory_is_written(
    made: Made, tmp_path: Path, suffix: str
) -> None:
    with file_limit(6000):
        said = refuse(tmp_path, *simulation(made, tmp_path / f"sim{suffix}"), code=1)
    assert "no space left" in said or "is the disk full?" in said
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_while_data_are_imported(made: Made, tmp_path: Path) -> None:
    with file_limit(6000):
        said = refuse(tmp_path, "import", *made.arrays.flags(), "--out", tmp_path / "new", code=1)
    assert "no space left" in said
    assert "new" in said
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_while_a_model_is_saved(made: Made, tmp_path: Path) -> None:
    flags = [part for value in (*FIT, "training.save_every=1") for part in ("--set", value)]
    fit = ["fit", made.dataset, "--out", tmp_path / "new", "--device", "cpu", *flags]
    with file_limit(2000):
        outcome = trajgen(*fit)
    assert outcome.code == 1
    assert "no space left" in outcome.error
    assert not (tmp_path / "new").exists()
    succeed(*fit)  # the same command goes on once there is space


def test_no_space_is_told_from_other_errors(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "sim.npz")

    def full_tensors(*arguments: object, **more: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space (os error 28)")

    monkeypatch.setattr(writers.np, "savez", full)
    said = refuse(tmp_path, *simulation(made, tmp_path / "sim.npz"), code=1)
    assert said == "there is no space left for sim.npz; free some and run the same command again"
    monkeypatch.setattr(store, "save_file", full_tensors)
    said = refuse(tmp_path, "import", *made.arrays.flags(), "--out", tmp_path / "new", code=1)
    assert "there is no space left for" in said


# --- rights ------------------------------------------------------------------------------------


def commands_to(folder: Path, made: Made) -> list[list[object]]:
    return [
        ["import", *made.arrays.flags(), "--out", folder / "new"],
        simulation(made, folder / "new.npz"),
        ["evaluate", made.dataset, "--reference", made.dataset, "--out", folder / "new"],
        ["fit", made.dataset, "--out", folder / "new"],
        ["train", made.dataset, "--out", folder / "new"],
    ]


def test_no_permission_for_the_folder(made: Made, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):
        pytest.skip("permission bits do not bind this user; the next test stands in")
    for command in commands_to(locked, made):
        assert "no permission for" in refuse(tmp_path, *command)


def test_a_refused_permission_is_bad_input(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*arguments: object, **more: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path))

    monkeypatch.setattr(tempfile, "TemporaryFile", locked)
    monkeypatch.setattr(Path, "mkdir", locked)
    for command in commands_to(tmp_path, made):
        assert f"there is no permission for {tmp_path}" in refuse(tmp_path, *command)


def test_a_file_where_a_folder_should_be(made: Made, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for command in commands_to(tmp_path / "file", made):
        assert "cannot be used" in refuse(tmp_path, *command)


def test_a_place_that_takes_no_file(made: Made, tmp_path: Path) -> None:
    for command in commands_to(Path("/proc/nowhere"), made):
        assert "the system refused" in refuse(tmp_path, *command, code=1)
