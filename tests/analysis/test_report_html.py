"""The report: escaped, self-contained, whole, and the same bytes for the same input."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from trajgen.analysis.evaluate import EvaluationSettings
from trajgen.analysis.evaluation import SCHEMA_VERSION
from trajgen.analysis.legacy import LegacyStrides
from trajgen.analysis.report.contact_maps import contact_maps
from trajgen.analysis.report.evaluation_folder import evaluate_to_folder
from trajgen.analysis.report.figures import (
    Curve,
    Ensemble,
    RmsdRound,
    Surface,
    distributions,
    free_energy_surfaces,
    rmsd_histograms,
    stacked_bars,
    training_curves,
)
from trajgen.analysis.report.page import prefix_ids, render_report, write_report
from trajgen.analysis.report.sections import Cell, Figure, Section, Table
from trajgen.data.records import BeadFrames
from trajgen.data.sources import open_samples
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.files import read_json
from trajgen.progress import Progress, ProgressTask

HOSTILE = "<script>alert('1')</script>&\"$x_1^{$ \x00\x1b \udcff.xtc"
VOID = {"meta", "br", "img", "link", "input", "hr"}
FETCHING = {"link", "img", "iframe", "object", "embed", "audio", "video", "source"}


class Reader(HTMLParser):
    """Collects what a browser would see, and complains about tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.text = [], [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            assert not name.startswith("on")
            assert (tag, name) != ("script", "src")
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href", "src"):
                self.links.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(document: str) -> Reader:
    reader = Reader()
    reader.feed(document)
    reader.close()
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert not FETCHING & set(reader.tags)
    for link in reader.links:
        assert link.startswith(("#", "data:image/png;base64,"))
        assert not link.startswith("#") or link[1:] in reader.ids
    for target in re.findall(r"url\(([^)]*)\)", document):
        assert target.startswith("#")
        assert target[1:] in reader.ids
    assert not re.search("https?:", document)
    return reader


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    generator = np.random.default_rng(0)
    clouds = [generator.normal(size=(300, 2)) * scale for scale in (1, 2)]
    values = generator.normal(size=(200, 3))
    steps = np.arange(5.0)
    return {
        "surface": free_energy_surfaces(
            [
                Surface("reference", clouds[0], np.ones(300)),
                Surface(HOSTILE, clouds[1], None, {HOSTILE: clouds[1][:9]}, [clouds[1][:4]]),
                Surface("nothing on the grid", clouds[0] + 100),
            ],
            HOSTILE,
        ),
        "distribution": distributions(
            [Ensemble("reference", values), Ensemble(HOSTILE, values + 1, np.ones(200))],
            ["a", HOSTILE, "c"],
            "dihedral",
            "rad",
            "terms",
            2 * np.pi,
        ),
        "rmsd": rmsd_histograms(
            [
                RmsdRound("round 0", np.abs(values[:, 0]), np.abs(values[:, 1]), np.ones(3)),
                RmsdRound("round 1", np.abs(values[:, 0]), np.empty(0)),
            ],
            "rounds",
        ),
        "curves": training_curves(
            [Curve("potential, round 0", steps, 2 / (1 + steps), 3 / (1 + steps), 2.5)],
            "force error ((kJ/mol/nm)²)",
            "curves",
        ),
        "bars": stacked_bars(
            ["round 0", "round 1"], {HOSTILE: np.ones(2), "b": np.array([0.0, 3.0])}, "ps", "bars"
        ),
    }


def test_hostile_texts_are_shown_and_not_obeyed(figures):
    section = Section(
        HOSTILE,
        [HOSTILE],
        [Table(HOSTILE, [HOSTILE], [[HOSTILE], [Cell(HOSTILE, "far")]])],
        list(figures.values()),
    )
    provenance = {HOSTILE: {"file": HOSTILE}}
    document = render_report(HOSTILE, [HOSTILE], [section], provenance, {HOSTILE: HOSTILE})
    reader = read(document)
    assert reader.tags.count("script") == 2  # that of the page, and its numbers
    assert "alert" in reader.text
    assert "$x_1^{$" in reader.text
    assert not re.search(r"[\x00-\x08\x0e-\x1f\ud800-\udfff]", document)
    document.encode("utf-8")


def test_figures_have_labels_with_units_and_keep_text_as_text(figures):
    wanted = {
        "surface": ["TIC 0 (TIC units)", "free energy (kT)", "100.0% of the weight off the grid"],
        "distribution": ["dihedral (rad)", "density (1/rad)"],
        "rmsd": ["RMSD to the reference frame (nm)", "training set", "round 1"],
        "curves": ["optimizer step", "force error ((kJ/mol/nm)²)", "prior only"],
        "bars": ["ps", "round 1"],
    }
    for name, texts in wanted.items():
        for text in texts:
            assert f">{text}</text>" in figures[name].svg or f">{text}</" in figures[name].svg


def test_what_lies_outside_the_axis_of_a_distribution_is_said():
    values = np.linspace(0.0, 1.0, 200)[:, None]
    away = np.concatenate([values[:50], values[:150] + 5.0])
    figure = distributions(
        [Ensemble("reference", values), Ensemble("near", values + 0.2), Ensemble("far", away)],
        ["a"],
        "end-to-end distance",
        "nm",
        "terms",
    )
    assert ">75% outside</" in figure.svg
    assert figure.svg.count(" outside</") == 1


def test_figures_are_the_same_bytes_each_time(figures):
    steps = np.arange(5.0)
    again = training_curves(
        [Curve("potential, round 0", steps, 2 / (1 + steps), 3 / (1 + steps), 2.5)],
        "force error ((kJ/mol/nm)²)",
        "curves",
    )
    assert again == figures["curves"]
    assert "<metadata" not in again.svg


def test_contact_maps_show_the_reference_and_what_differs():
    pairs = np.array([[0, 3], [1, 4], [0, 4]])
    figure = contact_maps(
        np.array([0.5, 0.1, 0.0]), {HOSTILE: np.array([0.9, 0.1, 0.0])}, pairs, 5, "contacts"
    )
    for text in ("reference", "residue", "probability", "difference"):
        assert f">{text}</" in figure.svg
    assert figure.svg.count("<image") >= 2
    assert "<script" not in figure.svg


def test_prefix_changes_ids_and_not_labels():
    svg = (
        '<svg><g id="a"/><use xlink:href="#a" clip-path="url(#a)"/>'
        '<text>id="a" url(#a)</text></svg>'
    )
    wanted = (
        '<svg><g id="p-a"/><use xlink:href="#p-a" clip-path="url(#p-a)"/>'
        '<text>id="a" url(#a)</text></svg>'
    )
    assert prefix_ids(svg, "p-") == wanted


def test_no_model_changes_the_panel_of_the_reference():
    cloud = np.random.default_rng(0).normal(size=(500, 2))
    drawn = [
        free_energy_surfaces([Surface("reference", cloud), Surface("far", cloud * scale)], "c").svg
        for scale in (50, 80)
    ]
    first_images = [re.search(r"base64,([^\"]*)", svg).group(1) for svg in drawn]
    assert first_images[0] == first_images[1]
    ticks = [re.findall(r">(−?[\d.]+)</text>", svg) for svg in drawn]
    assert ticks[0] == ticks[1]
    assert all("of the weight off the grid" in svg for svg in drawn)


def test_written_file_is_the_rendered_document(tmp_path):
    sections = [Section("One", ["text"])]
    write_report(tmp_path / "r.html", "Title", ["line"], sections, {"seed": 1})
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert text == render_report("Title", ["line"], sections, {"seed": 1})


class Steps(Progress):
    def __init__(self):
        self.seen = []

    def task(
        self, label: str, total: int, done: int = 0, limit_s: float | None = None
    ) -> ProgressTask:
        seen = self.seen

        class Task(ProgressTask):
            def advance(self, steps: int = 1, status: str = "") -> None:
                seen.append((label, total, status))

        return Task()


def test_legacy_numbers_of_atoms_are_refused_before_the_work(shared_data, tmp_path):
    structure = shared_data / "fastfolder_pdb" / "chignolin_1uao.pdb"
    atoms = open_samples([structure], None, "heavy")
    settings = EvaluationSettings(legacy=LegacyStrides())
    with pytest.raises(InputError, match="legacy numbers are of C-alpha beads"):
        evaluate_to_folder({"a": atoms}, atoms, tmp_path / "x", settings, 1, {})
    assert not (tmp_path / "x").exists()


def test_folder_has_metrics_and_a_whole_report(tmp_path, fluctuating):
    settings = EvaluationSettings(tica_lag_frames=3, bootstrap_resamples=20, coverage_frames=50)
    reference = fluctuating(6, 40, seed=0)
    samples = {"a<b>.xtc": fluctuating(4, 40, seed=1), "failed": reference.take(slice(0, 0))}
    steps = Steps()
    out = evaluate_to_folder(
        samples,
        reference,
        tmp_path / "out",
        settings,
        seed=2,
        provenance={"trajgen": "0.1.0", "files": {"reference": "r.xtc"}},
        progress=steps,
        left_out={"failed": {"failed chain": 12}},
    )
    assert steps.seen == [("evaluate", 3, name) for name in ("reference", *samples)]
    text = (out / "metrics.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    metrics = read_json(out / "metrics.json")
    assert metrics["schema_version"] == SCHEMA_VERSION
    assert set(metrics["samples"]) == set(samples)
    assert metrics["samples"]["failed"]["samples"]["left_out"] == {"failed chain": 12}
    assert metrics["samples"]["a<b>.xtc"]["distances"]["dihedral"]["pooled"]["value"] > 0
    document = (out / "report.html").read_text(encoding="utf-8")
    reader = read(document)
    for wanted in (
        "Distances to the reference",
        "Free energy along the slow coordinates",
        "Distributions",
        "Coverage",
        "Term by term",
        "Frames used, and what to know",
        "Provenance",
        "a<b>.xtc",
        "12 (failed chain)",
        "not measured",
        "files.reference",
    ):
        assert wanted in reader.text
    assert len(document) < 15e6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.slow
def test_the_report_of_a_large_protein_stays_small(tmp_path):
    beads = BeadTopology.from_residues(("ALA",) * 200)
    generator = np.random.default_rng(0)
    line = np.zeros((200, 3))
    line[:, 0] = 0.38 * np.arange(200)
    positions = (line + 0.05 * generator.normal(size=(40, 200, 3))).astype(np.float32)
    frames = BeadFrames(beads, positions, np.repeat(np.arange(4), 10), time_step_ps=1.0)
    settings = EvaluationSettings(
        tica_lag_frames=1, bootstrap_resamples=10, floor_splits=2, coverage_frames=20, kinetics=None
    )
    sets = {f"set {k}": frames for k in range(2)}
    out = evaluate_to_folder(sets, frames, tmp_path / "out", settings, 0, {})
    assert (out / "report.html").stat().st_size < 15e6


def test_folder_that_exists_and_no_samples_are_refused(tmp_path, fluctuating):
    reference = fluctuating(2, 10, seed=0)
    with pytest.raises(InputError, match="no samples"):
        evaluate_to_folder({}, reference, tmp_path / "x", EvaluationSettings(), 1, {})
    with pytest.raises(InputError, match="exists already"):
        evaluate_to_folder({"a": reference}, reference, tmp_path, EvaluationSettings(), 1, {})
    with pytest.raises(InputError, match="called 'reference'"):
        evaluate_to_folder(
            {"reference": reference}, reference, tmp_path / "x", EvaluationSettings(), 1, {}
        )
    assert list(tmp_path.iterdir()) == []
