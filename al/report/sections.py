"""All sections of the report of a run, and where it came from."""

from typing import Any

from al.parts.evaluator import MODELS
from al.report.accuracy import coverage_section, kinetics_sections, measures_section
from al.report.budget import budget_section
from al.report.ensembles import contacts_section, distributions_section, surfaces_section
from al.report.selection import selection_section
from al.report.structures import structures_sections
from al.report.training import training_section
from al.run_content import RunContent
from trajgen.analysis.report.sections import Section
from trajgen.versions import versions


def report_sections(content: RunContent) -> list[Section]:
    """Return all sections of a run's report."""
    return [
        measures_section(content),
        *structures_sections(content),
        surfaces_section(content),
        coverage_section(content),
        distributions_section(content),
        *contacts_section(content),
        *kinetics_sections(content),
        selection_section(content),
        training_section(content),
        budget_section(content),
    ]


def provenance(content: RunContent) -> dict[str, Any]:
    """Return versions, seeds, settings and hashes."""
    models = {
        f"round {round}": {
            f"{model}_sha256": content.summaries[round, "train"][f"{model}_sha256"]
            for model in MODELS
        }
        for round in content.rounds
    }
    return {
        "reproduce": "al run settings.yaml --out RUN, with the settings below",
        "versions": versions("pulchra"),
        "dataset_sha256": content.dataset.digest(),
        "models": models,
        "settings": content.settings,
    }
