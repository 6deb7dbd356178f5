"""What the documents name is there: files, functions and tests."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def files_called(ending: str) -> list[Path]:
    found = [path for part in ("trajgen", "al", "tests") for path in (ROOT / part).rglob("*.py")]
    return [path for path in found if path.as_posix().endswith(f"/{ending}")]


def names_in(document: Path) -> list[tuple[str, str]]:
    return re.findall(r"`([\w/]+\.py)::?(\w+)`", document.read_text(encoding="utf-8"))


def test_the_table_of_measures_names_functions_and_tests() -> None:
    assert len(names_in(ROOT / "docs" / "metrics.md")) > 150


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_a_document_links_to_are_there(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_functions_and_tests_that_a_document_names_are_there(document: Path) -> None:
    missing = [
        f"{file}:{name}"
        for file, name in names_in(document)
        if not any(
            re.search(rf"\b{name}\b", path.read_text(encoding="utf-8"))
            for path in files_called(file)
        )
    ]
    assert missing == []
