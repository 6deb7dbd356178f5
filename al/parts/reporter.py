"""The reporter: the sections of a run as one HTML file."""

from pathlib import Path
from typing import Any

from al.report.sections import provenance, report_sections
from al.run_content import read_run
from trajgen.analysis.report.page import write_report


class HtmlReporter:
    """Writes ``report.html``."""

    def report(self, run: Path, metrics: dict[str, Any]) -> Path:
        """Write the report of what the run has on disk; return its path."""
        content = read_run(run)
        name = content.settings["system"]["name"]
        path = run / "report.html"
        write_report(
            path,
            f"Active learning of {name} ({content.reference.topology.sequence})",
            metrics["verdict"],
            report_sections(content),
            provenance(content),
            metrics,
        )
        return path
