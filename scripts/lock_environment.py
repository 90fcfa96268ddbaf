"""What an environment consists of: a lock file for pip, or a bill of materials, from pip's own report.

    python -m pip install --report report.json ".[dev]"               # --dry-run --ignore-installed: without installing
    python scripts/lock_environment.py report.json > lock.txt         # pip install --require-hashes -r lock.txt
    python scripts/lock_environment.py report.json --sbom > sbom.json # CycloneDX 1.6
    python scripts/lock_environment.py > constraints-ci.txt           # versions of the environment that runs this

The lock holds for the Python and the machine of the report, as a hash is one of a wheel; the versions alone hold for
all. Neither names where files come from, and both are the same for the same report. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

__all__ = ["Package", "installed", "locked", "of_report", "sbom"]

_TOOLS = ("pip", "setuptools", "wheel")  # what installs, not what is installed


@dataclass(frozen=True, order=True)
class Package:
    """A distribution as pip chose it; ``sha256`` of the file, where pip told it."""

    name: str
    version: str
    sha256: str = ""
    license: str = ""


def canonical(name: str) -> str:
    """As PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def of_report(report: Mapping[str, Any]) -> list[Package]:
    """The packages of a report of ``pip install --report``, by name; folders, such as the project's own, are left out.

    Raises
    ------
    ValueError
        It is no such report, or a file has no sha256.
    """
    if report.get("version") != "1" or not isinstance(report.get("install"), list):
        raise ValueError("this is no report of pip install --report")
    found = []
    for one in report["install"]:
        about, source = one["metadata"], one["download_info"]
        if "dir_info" in source:
            continue
        hashes = source.get("archive_info", {}).get("hashes", {})
        if "sha256" not in hashes:
            raise ValueError(f"{about['name']} has no sha256 in the report")
        told = about.get("license_expression") or about.get("license") or ""
        found.append(Package(canonical(about["name"]), about["version"], hashes["sha256"], told.partition("\n")[0]))
    return sorted(found)


def installed(root: str = "certnet") -> list[Package]:
    """What ``root`` and its extras need, directly and in turn, as far as it is installed here; by name, without root
    and the tools that install. Local versions (``+cpu``) are told without what is local.
    """
    here = {canonical(one.metadata["Name"]): one for one in distributions()}
    found, new = set(), [root]
    while new:
        name = new.pop()
        if name in here and name not in found:
            found.add(name)
            needs = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in here[name].requires or ())
            new += [canonical(need[0]) for need in needs if need]
    return [Package(name, here[name].version.partition("+")[0]) for name in sorted(found - {root, *_TOOLS})]


def locked(packages: Sequence[Package]) -> Iterator[str]:
    """Lines for pip."""
    for one in packages:
        pinned = f"{one.name}=={one.version}"
        yield f"{pinned} --hash=sha256:{one.sha256}" if one.sha256 else pinned


def sbom(packages: Sequence[Package]) -> dict[str, Any]:
    """A bill of materials in the form of CycloneDX 1.6."""
    components = []
    for one in packages:
        purl = f"pkg:pypi/{one.name}@{one.version}"
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": purl,
            "name": one.name,
            "version": one.version,
            "purl": purl,
        }
        if one.sha256:
            component["hashes"] = [{"alg": "SHA-256", "content": one.sha256}]
        if one.license:
            component["licenses"] = [{"license": {"name": one.license}}]
        components.append(component)
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("report", nargs="?", type=Path, help="of pip install --report; without: this environment")
    parser.add_argument("--sbom", action="store_true", help="CycloneDX in the place of lines for pip")
    asked = parser.parse_args()
    try:
        report = None if asked.report is None else json.loads(asked.report.read_text(encoding="utf-8"))
        packages = installed() if report is None else of_report(report)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    text = json.dumps(sbom(packages), indent=1) if asked.sbom else "\n".join(locked(packages))
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
