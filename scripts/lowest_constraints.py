"""The lowest versions that pyproject.toml declares, as a constraints file for pip.

    python scripts/lowest_constraints.py plot qp > lowest.txt
    pip install -c lowest.txt ".[plot,qp]" pytest hypothesis

pins each direct dependency, and those of the extras that are named, to the lower end of its range; what these need in
turn stays free, so that the newest versions of that are tried with the oldest of this. Tests that pass there make the
declared bounds true.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["lowest"]

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_RANGE = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*>=\s*(?P<low>[0-9][0-9A-Za-z.]*)(?:\s*,\s*(?:<|!=)[^;]+)?")


def lowest(text: str, extras: Sequence[str] = ()) -> Iterator[str]:
    """``name==version`` of each direct dependency in the text of a pyproject.toml.

    Raises
    ------
    ValueError
        An extra that there is not; a requirement without a lower bound, which no test could make true.
    """
    project = tomllib.loads(text)["project"]
    optional = project["optional-dependencies"]
    if unknown := sorted({*extras} - {*optional}):
        raise ValueError(f"there is no extra {', '.join(unknown)}: one of {', '.join(optional)}")
    for requirement in [*project["dependencies"], *(one for extra in extras for one in optional[extra])]:
        found = _RANGE.fullmatch(requirement)
        if found is None:
            raise ValueError(f"{requirement!r} is not of the form name>=version: say which versions are tested")
        yield f"{found['name']}=={found['low']}"


def main() -> None:
    try:
        lines = list(lowest(PYPROJECT.read_text(encoding="utf-8"), sys.argv[1:]))
    except ValueError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
