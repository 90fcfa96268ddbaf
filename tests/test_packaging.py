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
LOCK = ROOT / "scripts" / "lock_environment.py"
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


def test_the_recipe_for_conda_has_the_same_requirements() -> None:
    path = ROOT / "packaging" / "conda" / "recipe.yaml"
    if not path.is_file():
        pytest.skip("the recipe is not part of the sdist")
    recipe = pytest.importorskip("yaml").safe_load(path.read_text(encoding="utf-8"))
    assert recipe["context"]["version"] == certnet.__version__
    needed = [one.replace("cvxpy-base", "cvxpy").replace(" ", "") for one in recipe["requirements"]["run"]]
    assert sorted(needed) == sorted([*PROJECT["dependencies"], "python>=${{python_min}}"])
    host = {one.replace(" ", "") for one in recipe["requirements"]["host"]}
    assert {one.partition(";")[0] for one in tomllib.loads(TEXT)["build-system"]["requires"]} <= host
    variants = path.with_name("variants.yaml").read_text(encoding="utf-8")
    assert f'python_min: ["{PROJECT["requires-python"].removeprefix(">=")}"]' in variants


def test_workflows_use_actions_by_version_and_files_that_there_are() -> None:
    folder = ROOT / ".github" / "workflows"
    if not folder.is_dir():
        pytest.skip("the workflows are not part of the sdist")
    yaml = pytest.importorskip("yaml")
    for path in sorted(folder.glob("*.yml")):
        text = path.read_text(encoding="utf-8")
        jobs = yaml.safe_load(text)["jobs"]
        for name, job in jobs.items():
            assert {*([job["needs"]] if "needs" in job else [])} <= {*jobs}, name
            for step in job.get("steps", []):
                assert ("uses" in step) != ("run" in step), (path.name, name, step)
                assert re.fullmatch(r"[\w./-]+@[\w./-]+", step.get("uses", "a/b@v1")), step
        for file in re.findall(r"(?:scripts|tests)/\w+\.py|constraints[\w-]*\.txt", text):
            assert (ROOT / file).is_file(), f"{path.name} names {file}"


REPORT = {
    "version": "1",
    "install": [
        {"metadata": {"name": "certnet", "version": "0"}, "download_info": {"url": "file:///x", "dir_info": {}}},
        {
            "metadata": {"name": "Two_Words", "version": "2.0", "license": "MIT\nand the whole text"},
            "download_info": {"url": "https://host/two.whl", "archive_info": {"hashes": {"sha256": "ab"}}},
        },
        {
            "metadata": {"name": "one", "version": "1.5+cpu", "license_expression": "BSD-3-Clause"},
            "download_info": {"url": "https://host/one.whl", "archive_info": {"hashes": {"sha256": "cd"}}},
        },
    ],
}


def test_a_lock_and_a_bill_of_materials_of_a_report() -> None:
    script = runpy.run_path(str(LOCK))
    packages = script["of_report"](REPORT)
    assert list(script["locked"](packages)) == ["one==1.5+cpu --hash=sha256:cd", "two-words==2.0 --hash=sha256:ab"]
    bill = script["sbom"](packages)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert [one["purl"] for one in bill["components"]] == ["pkg:pypi/one@1.5+cpu", "pkg:pypi/two-words@2.0"]
    assert [one["licenses"][0]["license"]["name"] for one in bill["components"]] == ["BSD-3-Clause", "MIT"]
    assert "host" not in str(bill)


def test_what_is_no_report_is_refused() -> None:
    script = runpy.run_path(str(LOCK))
    with pytest.raises(ValueError, match="no report"):
        script["of_report"]({"version": "2", "install": []})
    unknown = {"metadata": {"name": "a", "version": "1"}, "download_info": {"url": "x", "archive_info": {}}}
    with pytest.raises(ValueError, match="a has no sha256"):
        script["of_report"]({"version": "1", "install": [unknown]})


def test_the_versions_of_ci_are_those_of_all_that_is_needed_and_within_the_bounds() -> None:
    lines = (ROOT / "constraints-ci.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))

    def numbers(version: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", version)[:3]]

    extras = PROJECT["optional-dependencies"]
    for requirement in {*PROJECT["dependencies"], *(one for extra in extras.values() for one in extra)}:
        name, low = requirement.split(">=")
        assert numbers(pinned[name.lower()]) >= numbers(low), requirement


def test_types_are_part_of_the_package() -> None:
    assert (Path(certnet.__file__).parent / "py.typed").is_file()
