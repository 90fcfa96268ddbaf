"""The documentation: its code runs as it stands, and its pages build without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import certnet

ROOT = Path(certnet.__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/tour.md", "docs/howto.md"])
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    code = "\n\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    assert code.count("\n") > 15
    if "import torch" in code:
        pytest.importorskip("torch")
    exec(compile(code, page, "exec"), {"__name__": page})


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"


def test_the_gallery_shows_every_notebook():
    page = (DOCS / "notebooks.md").read_text(encoding="utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"/notebooks/{path.name})" in page, f"python scripts/notebook_gallery.py: {path.name} is not on the page"
        assert f"(images/notebooks/{path.stem}." in page, f"scripts/notebook_gallery.py --run {path.stem}: no picture"


def test_the_auditors_page_names_every_checker_and_counts_its_lines():
    page = (DOCS / "auditing.md").read_text(encoding="utf-8")
    counted = {}
    for files, lines in re.findall(r"^\| \d+ \| (`[^|]+`) \| ([^|]+) \|", page, flags=re.MULTILINE):
        counted |= dict(zip(re.findall(r"`([^`]+)`", files), map(int, lines.split(","))))
    package = ROOT / "certnet"
    for name, lines in counted.items():
        assert len((package / name).read_text(encoding="utf-8").splitlines()) == lines, name
    checkers = {f"proofs/{path.name}" for path in (package / "proofs").glob("*.py")}
    assert checkers - {"proofs/__init__.py", "proofs/__main__.py", "proofs/inflation.py"} <= set(counted)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="the site needs the docs extra")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "index.html").is_file()
