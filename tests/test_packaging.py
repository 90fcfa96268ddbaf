"""What a release says of itself in several places is the same in all of them."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import certnet

ROOT = Path(__file__).parents[1]
if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("the project file is not part of an installed certnet", allow_module_level=True)

TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)["project"]
SCRIPT = ROOT / "scripts" / "lowest_constraints.py"
lowest = runpy.run_path(str(SCRIPT))["lowest"]


def test_the_version_is_the_newest_of_the_changelog_and_that_of_the_citation() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] == certnet.__version__
    assert f"\nversion: {certnet.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_every_python_that_is_promised_is_tested() -> None:
    promised = [line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert promised == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={promised[0]}"
    workflow = ROOT / ".github" / "workflows" / "ci.yml"
    if workflow.is_file():  # not in the sdist
        assert "python: [{}]".format(", ".join(f'"{one}"' for one in promised)) in workflow.read_text(encoding="utf-8")


def test_licence_as_pep_639_has_it() -> None:
    assert PROJECT["license"] == "MIT"
    assert not [line for line in PROJECT["classifiers"] if line.startswith("License")]
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])


def test_the_lowest_versions_are_those_of_the_ranges() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "plot", "qp"], capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    ranges = PROJECT["dependencies"] + [
        one for name in ("plot", "qp") for one in PROJECT["optional-dependencies"][name]
    ]
    assert [line.replace("==", ">=") for line in lines] == ranges


@pytest.mark.parametrize("requirement", ["numpy", "numpy==2.0", "numpy>2", 'numpy>=2; python_version < "3.13"'])
def test_a_requirement_without_a_lower_bound_is_refused(requirement: str) -> None:
    text = f"[project]\ndependencies = ['{requirement}']\n[project.optional-dependencies]\nplot = []\n"
    with pytest.raises(ValueError, match="say which versions"):
        list(lowest(text))


def test_an_upper_bound_does_not_matter_and_an_unknown_extra_does() -> None:
    text = "[project]\ndependencies = ['numpy>=2.0,<3']\n[project.optional-dependencies]\nplot = ['matplotlib>=3.9']\n"
    assert list(lowest(text, ["plot"])) == ["numpy==2.0", "matplotlib==3.9"]
    with pytest.raises(ValueError, match="no extra plots: one of plot"):
        list(lowest(text, ["plots"]))


def test_the_recipe_for_conda_has_the_same_bounds() -> None:
    recipe = ROOT / "packaging" / "conda" / "recipe.yaml"
    if not recipe.is_file():
        pytest.skip("the recipe is not part of the sdist")
    text = recipe.read_text(encoding="utf-8")
    assert f'version: "{certnet.__version__}"' in text
    for requirement in PROJECT["dependencies"]:
        name, low = requirement.split(">=")
        assert re.search(rf"- {name}(-base)? >={re.escape(low)}\n", text), requirement


def test_types_are_part_of_the_package() -> None:
    assert (Path(certnet.__file__).parent / "py.typed").is_file()
