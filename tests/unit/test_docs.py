"""The documents name tests, files and settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_proof_that_a_page_names_exists() -> None:
    named = {match for page in PAGES for match in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text())}
    assert len(named) > 30
    missing = [f"{file}::{name}" for file, name in named if not _has_test(ROOT / file, name)]
    assert missing == []


def _has_test(file: Path, name: str) -> bool:
    return file.is_file() and (not name or re.search(rf"^(async )?def {name}\b", file.read_text(), re.MULTILINE) is not None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("number", [*range(1, 19), *range(20, 26)])
def test_every_threat_has_its_row_with_a_proof(number: int) -> None:
    rows = [line for line in (ROOT / "docs" / "security.md").read_text().splitlines() if line.startswith(f"| {number} |")]
    assert len(rows) == 1
    assert "`tests/" in rows[0]
