"""``trajgen fit`` and ``trajgen info`` of a potential: the report, and training that goes on."""

import json

from command import succeed, trajgen
from tiny import FIT

FLAGS = [part for value in FIT for part in ("--set", value)]


def test_fit_and_info_print_the_report(made, tmp_path):
    fit = ("fit", made.dataset, "--out", tmp_path / "new", "--device", "cpu", *FLAGS)
    for said in (succeed(*fit).out, succeed("info", tmp_path / "new").out):
        for part in ("noise floor", "explained variance", "priors alone", "64 chains x 50 steps"):
            assert part in said
    card = json.loads(succeed("info", tmp_path / "new", "--json").out)
    assert card["prior_simulation"]["steps"] == 50
    assert card["priors"][0]["term"] == "bond"


def test_fit_writes_curves_where_asked(made, tmp_path, monkeypatch):
    asked = ("--set", "prior_check=null", "--set", "training.tensorboard=true")
    fit = ("fit", made.dataset, "--device", "cpu", *FLAGS, *asked)
    succeed(*fit, "--out", tmp_path / "new")
    assert list((tmp_path / "new.tensorboard").glob("events*"))
    monkeypatch.setattr("trajgen.tracking.find_spec", lambda name: None)
    outcome = trajgen(*fit, "--out", tmp_path / "other")
    assert outcome.code == 2
    assert "pip install tensorboard" in outcome.error


def test_fit_goes_on_from_a_potential(made, tmp_path):
    more = ["--set", "prior_check=null", "--continue-from", made.potential, "--json"]
    fit = ("fit", made.dataset, "--device", "cpu", *FLAGS, *more)
    card = json.loads(succeed(*fit, "--out", tmp_path / "new").out)
    assert card["continued"]["from"] == str(made.potential)
    outcome = trajgen(*fit, "--set", "committee=2", "--out", tmp_path / "other")
    assert outcome.code == 2
    assert "has committee 1, this fit 2" in outcome.error
