"""The store keeps what it was given, whole, whatever happens while it is written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trajgen.data import store
from trajgen.data.mapping import aggregate_force_map, alpha_carbon_beads, map_vectors, position_map
from trajgen.data.records import AtomFrames, BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError

LABEL = ShardLabel(
    name="r00-sample-000",
    source="sample",
    hamiltonian="test",
    temperature_K=300.0,
    save_interval_ps=2.0,
    oracle_ps=24.0,
    seed=7,
)


@pytest.fixture
def dataset(tmp_path: Path, beads: BeadFrames) -> Dataset:
    made = Dataset.create(tmp_path / "D", DatasetHeader(beads.topology))
    made.append_beads(LABEL, beads)
    return made


def atom_frames(seed: int = 0) -> AtomFrames:
    atoms = AtomTopology(
        names=("N", "CA", "HA", "C", "N", "CA", "HA", "C"),
        elements=("N", "C", "H", "C") * 2,
        atom_residues=(0, 0, 0, 0, 1, 1, 1, 1),
        residues=("ALA", "GLY"),
        residue_numbers=(1, 2),
        chains=(0, 0),
        bonds=((0, 1), (1, 2), (1, 3), (3, 4), (4, 5), (5, 6), (5, 7)),
    )
    random = np.random.default_rng(seed)
    return AtomFrames(
        atoms,
        random.normal(size=(6, 8, 3)).astype(np.float32),
        np.zeros(6, dtype=np.int64),
        2.0,
        random.normal(size=(6, 8, 3)).astype(np.float32),
        random.uniform(1, 2, 6),
    )


def test_beads_come_back_bit_for_bit(dataset: Dataset, beads: BeadFrames) -> None:
    opened = Dataset.open(dataset.path)
    read = opened.read_beads(opened.entries[0])
    assert read.topology == beads.topology
    assert read.time_step_ps == beads.time_step_ps
    for name in ("positions_nm", "segments", "forces", "weights", "force_variance"):
        np.testing.assert_array_equal(getattr(read, name), getattr(beads, name))
    assert opened.entries[0].label == LABEL
    assert (opened.n_frames, opened.oracle_ps) == (12, 24.0)
    assert opened.damaged_files() == []


def test_atoms_come_back_and_their_beads_are_mapped(tmp_path: Path) -> None:
    atoms = atom_frames()
    beads, bead_atoms = alpha_carbon_beads(atoms.topology)
    dataset = Dataset.create(tmp_path / "A", DatasetHeader(beads, atoms.topology, bead_atoms))
    groups = ((1, 2), (5, 6))
    label = replace(LABEL, constraint_groups=groups, force_map="aggregate")
    dataset.append_atoms(label, atoms, parents=np.arange(6))
    opened = Dataset.open(tmp_path / "A")
    (entry,) = opened.entries
    assert entry.label.constraint_groups == groups
    read = opened.read_beads(entry)
    np.testing.assert_array_equal(read.positions_nm, atoms.positions_nm[:, [1, 5]])
    W = aggregate_force_map(position_map(bead_atoms, 8), groups)
    np.testing.assert_array_equal(read.forces, map_vectors(W, atoms.forces))
    whole = opened.read_atoms(entry)
    some = opened.read_atoms(entry, [4, 0])
    for name in ("positions_nm", "forces", "weights"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(atoms, name))
        np.testing.assert_array_equal(getattr(some, name), getattr(atoms, name)[[4, 0]])
    with pytest.raises(InputError, match="not of this dataset's atoms"):
        dataset.append_atoms(
            replace(label, name="other"),
            replace(atoms, topology=replace(atoms.topology, residue_numbers=(8, 9))),
        )


def test_an_orphan_is_ignored_by_readers_and_removed_by_the_next_writer(
    dataset: Dataset, beads: BeadFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, line: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "append_line", killed)
        with pytest.raises(KeyboardInterrupt):
            dataset.append_beads(replace(LABEL, name="second"), beads)
    orphan = dataset.path / "shards" / "second.safetensors"
    half_written = dataset.path / "shards" / ".third.1.partial.safetensors"
    half_written.write_bytes(b"cut")
    assert orphan.is_file()
    assert Dataset.open(dataset.path).n_frames == 12
    assert orphan.is_file()
    writer = Dataset.open(dataset.path, writer=True)
    assert not orphan.exists()
    assert not half_written.exists()
    writer.append_beads(replace(LABEL, name="second"), beads)
    assert Dataset.open(dataset.path).n_frames == 24


def test_a_cut_manifest_line_is_dropped(dataset: Dataset, beads: BeadFrames) -> None:
    manifest = dataset.path / "manifest.jsonl"
    whole = manifest.read_bytes()
    dataset.append_beads(replace(LABEL, name="second"), beads)
    cut = manifest.read_bytes()[: len(whole) + 40]
    manifest.write_bytes(cut)
    assert Dataset.open(dataset.path).n_frames == 12
    assert manifest.read_bytes() == cut  # a reader changes nothing
    writer = Dataset.open(dataset.path, writer=True)
    assert manifest.read_bytes() == whole
    assert sorted(p.name for p in (dataset.path / "shards").iterdir()) == [
        "r00-sample-000.safetensors"
    ]
    writer.append_beads(replace(LABEL, name="second"), beads)
    assert Dataset.open(dataset.path).n_frames == 24


def test_a_broken_line_in_the_middle_of_the_manifest_is_refused(dataset: Dataset) -> None:
    manifest = dataset.path / "manifest.jsonl"
    manifest.write_text("{cut\n" + manifest.read_text())
    with pytest.raises(InputError, match="line 1"):
        Dataset.open(dataset.path)


def test_a_cut_shard_is_refused_and_a_changed_one_is_found(dataset: Dataset) -> None:
    file = dataset.path / dataset.entries[0].file
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="is damaged"):
        dataset.read_all_beads()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert dataset.damaged_files() == [dataset.entries[0].file]
    file.unlink()
    with pytest.raises(InputError, match="lacks shards/r00-sample-000"):
        Dataset.open(dataset.path)


def test_a_second_shard_of_one_name_and_a_bad_name_are_refused(
    dataset: Dataset, beads: BeadFrames
) -> None:
    with pytest.raises(InputError, match="already"):
        dataset.append_beads(LABEL, beads)
    with pytest.raises(InputError, match="may hold letters"):
        dataset.append_beads(replace(LABEL, name="../out"), beads)
    assert Dataset.open(dataset.path).n_frames == 12


def test_another_molecule_is_refused(dataset: Dataset, beads: BeadFrames) -> None:
    other = replace(beads, topology=BeadTopology.from_residues(("ALA",) * 5))
    with pytest.raises(InputError, match=r"GYDPE.*AAAAA"):
        dataset.append_beads(replace(LABEL, name="second"), other)


def test_nothing_is_ever_replaced_and_an_empty_dataset_says_so(
    tmp_path: Path, beads: BeadFrames
) -> None:
    empty = Dataset.create(tmp_path / "E", DatasetHeader(beads.topology))
    with pytest.raises(InputError, match="exists already"):
        Dataset.create(tmp_path / "E", DatasetHeader(beads.topology))
    with pytest.raises(InputError, match="is empty"):
        empty.read_all_beads()
    with pytest.raises(InputError, match="is no dataset"):
        Dataset.open(tmp_path)


def test_a_manifest_of_before_segments_went_on_is_read_and_keeps_its_digest(
    dataset: Dataset, beads: BeadFrames
) -> None:
    manifest = dataset.path / "manifest.jsonl"
    assert "continues" not in manifest.read_text()
    dataset.append_beads(replace(LABEL, name="second", continues=True), beads)
    opened = Dataset.open(dataset.path)
    assert [entry.label.continues for entry in opened.entries] == [False, True]
    assert opened.digest() == dataset.digest()
    segments = opened.read_all_beads().segments
    np.testing.assert_array_equal(segments, np.repeat([0, 1, 2], [6, 12, 6]))


def test_equal_content_has_an_equal_digest(tmp_path: Path, beads: BeadFrames) -> None:
    digests = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        made = Dataset.create(tmp_path / name, DatasetHeader(beads.topology))
        made.append_beads(replace(LABEL, seed=seed), beads)
        digests.append(made.digest())
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mapping": None}, "not subscriptable"),
        ({"beads": {"names": "CA"}}, "'residues' is missing"),
        ({"beads": ["CA"]}, "indices must be integers"),
        ({"atoms": "many"}, "indices must be integers"),
    ],
)
def test_a_damaged_header_is_refused_with_its_name(
    dataset: Dataset, change: dict[str, object], said: str
) -> None:
    import yaml

    header = dataset.path / "dataset.yaml"
    header.write_text(yaml.safe_dump({**yaml.safe_load(header.read_text()), **change}))
    with pytest.raises(InputError, match=rf"D/dataset\.yaml .*{said}.* restore"):
        Dataset.open(dataset.path)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, "colour"),
        ({"frames": None}, "frames is None"),
        ({"file": 3}, "file is 3"),
        ({"constraint_groups": 1}, "not iterable"),
    ],
)
def test_a_damaged_line_of_the_manifest_is_refused_with_its_number(
    dataset: Dataset, change: dict[str, object], said: str
) -> None:
    manifest = dataset.path / "manifest.jsonl"
    line = json.loads(manifest.read_text())
    text = manifest.read_text() + json.dumps({**line, **change}) + "\n"
    manifest.write_text(text)
    with pytest.raises(InputError, match=rf"manifest\.jsonl, line 2, .*{said}.* restore"):
        Dataset.open(dataset.path)
    for broken in ("{}", "[1]", "null"):
        manifest.write_text(broken + "\n")
        with pytest.raises(InputError, match=r"manifest\.jsonl, line 1, "):
            Dataset.open(dataset.path)


@pytest.mark.parametrize("change", [{"layout_version": 99}, {"units": {"length": "angstrom"}}])
def test_another_layout_is_refused(dataset: Dataset, change: dict[str, object]) -> None:
    import yaml

    header = dataset.path / "dataset.yaml"
    header.write_text(yaml.safe_dump({**yaml.safe_load(header.read_text()), **change}))
    with pytest.raises(InputError, match=next(iter(change)).replace("_", " ")):
        Dataset.open(dataset.path)
