"""A report in a browser: no error, no request, the viewer draws and plays, everything is saved."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import matplotlib.image
import mdtraj
import numpy as np
import pytest
from browser import Browser, find_browser

from al.molecule.peptide import build_peptide, extended_backbone
from al.molecule.settings import CapSettings
from trajgen.analysis.evaluate import EvaluationSettings
from trajgen.analysis.report.evaluation_folder import evaluate_to_folder
from trajgen.analysis.report.movies import movie, movie_sections
from trajgen.analysis.report.page import write_report
from trajgen.data.structures import solute_of
from trajgen.files import read_json

pytestmark = pytest.mark.skipif(find_browser() is None, reason="there is no Chromium")
CONTROLS = ".msp-traj-controls"


@pytest.fixture(scope="module")
def report(tmp_path_factory, fluctuating) -> Path:
    """Return the report of one set of made-up beads."""
    settings = EvaluationSettings(tica_lag_frames=3, bootstrap_resamples=20, coverage_frames=50)
    reference = fluctuating(6, 40, seed=0)
    samples = {"a<b>.xtc": fluctuating(4, 40, seed=1)}
    folder = tmp_path_factory.mktemp("report") / "out"
    evaluate_to_folder(samples, reference, folder, settings, 2, {"trajgen": "0.1.0"})
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(report, tmp_path_factory) -> Iterator[Browser]:
    program = find_browser()
    assert program is not None
    with Browser(program, tmp_path_factory.mktemp("browser")) as browser:
        browser.open(report, 1200, 900)
        yield browser


def pixels(png: bytes) -> np.ndarray:
    picture = matplotlib.image.imread(io.BytesIO(png))
    return (picture[..., :3] * 255).astype(int).reshape(-1, 3)


def saved(page: Browser, pattern: str) -> str:
    """Return the file that the page gave to its reader."""
    for _ in range(100):
        for file in page.downloads.glob(pattern):
            if file.stat().st_size:
                return file.read_text(encoding="utf-8")
        page.evaluate("new Promise((done) => setTimeout(done, 50))")
    raise AssertionError(f"{pattern} is not among {list(page.downloads.iterdir())}")


@pytest.mark.slow
def test_the_viewer_draws_and_plays(page: Browser) -> None:
    page.evaluate("document.querySelector('.viewer').scrollIntoView()")
    page.wait_for("document.querySelector('button.play') !== null")
    page.wait_for(f"document.querySelector('{CONTROLS}')?.innerText.includes('/')")
    page.evaluate("new Promise((done) => setTimeout(done, 1000))")
    assert len(np.unique(pixels(page.screenshot(".viewer .stage")), axis=0)) > 500
    label = f"document.querySelector('{CONTROLS}').innerText"
    first = page.evaluate(label)
    assert first == "Model 1 / 40"
    page.evaluate("document.querySelector('button.play').click()")
    page.wait_for(f"/Model ([4-9]|[1-3][0-9]) /.test({label})")
    page.evaluate("document.querySelector('button.play').click()")
    page.evaluate("[...document.querySelectorAll('.viewer li button')].at(-1).click()")
    pressed = "document.querySelector('.viewer [aria-pressed=true]').textContent"
    page.wait_for(f"{pressed} === 'a<b>.xtc'")
    page.wait_for(f"{label} === 'Model 1 / 40'")
    assert page.errors == []
    assert page.requests == []


@pytest.mark.slow
def test_atoms_are_drawn_by_element(tmp_path: Path) -> None:
    sequence = "GYD"
    built = build_peptide(sequence, extended_backbone(sequence), CapSettings())
    solute = solute_of(mdtraj.Topology.from_openmm(built.topology), Path("made.pdb"))
    frames = built.positions_nm[solute.indices][None].repeat(3, axis=0)
    made = movie("atoms", "three of them", solute.topology, frames.astype(np.float32))
    assert made is not None
    write_report(tmp_path / "report.html", "Atoms", [], movie_sections([made]), {})
    program = find_browser()
    assert program is not None
    with Browser(program, tmp_path / "browser") as page:
        page.open(tmp_path / "report.html", 600, 800)
        page.evaluate("document.querySelector('.viewer').scrollIntoView()")
        page.wait_for("document.querySelector('button.play') !== null")
        page.wait_for(f"document.querySelector('{CONTROLS}')?.innerText.includes('/ 3')")
        page.evaluate("new Promise((done) => setTimeout(done, 1000))")
        picture = pixels(page.screenshot(".viewer .stage"))
        red, green, blue = (picture[:, k] for k in range(3))
        assert ((red > green + 60) & (red > blue + 60)).any(), "oxygen"
        assert ((blue > red + 60) & (blue > green + 60)).any(), "nitrogen"
        assert page.errors == []
        assert page.requests == []


def test_tables_figures_and_numbers_are_saved(page: Browser, report: Path) -> None:
    page.evaluate("document.querySelector('.summary button.save').click()")
    assert json.loads(saved(page, "metrics.json")) == read_json(report.parent / "metrics.json")
    page.evaluate("document.querySelector('.wide button.save').click()")
    name = "Wasserstein-1-distance-to-the-reference-mean-over-terms.csv"
    rows = list(csv.reader(io.StringIO(saved(page, name))))
    assert rows[0][:3] == ["coordinate", "set", "distance"]
    assert {row[1] for row in rows[1:]} == {"a<b>.xtc"}
    page.evaluate("document.querySelector('figure button.save').click()")
    picture = saved(page, "figure-*.svg")
    assert picture.startswith("<svg xmlns=")
    assert "TIC 0 (TIC units)" in picture
    assert page.errors == []


@pytest.mark.parametrize("width", [400, 1200])
def test_nothing_is_wider_than_the_window(page: Browser, report: Path, width: int) -> None:
    page.open(report, width, 800)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.errors == []
    assert page.requests == []
