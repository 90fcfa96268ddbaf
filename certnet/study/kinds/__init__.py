"""Kinds of study, by name.

A kind is a value, :class:`~certnet.study.kinds.base.Kind`: a pydantic model of the study file and these functions.

    tasks(study)               all tasks, each after those that it needs
    execute(task, artifacts)   one task, in a worker: a row of plain values, and bytes for the tasks that need it
    report(study, rows)        tables, checks and paragraphs for the page
    pictures(study, rows)      matplotlib figures by name
    check(study)               where more than data sets is needed: is it there? A refusal names file and line
    packages(task)             optional packages that the task imports: nothing is begun where none can do without

To add one, write a module or a package here that ends in ``KIND = Kind("name", Model, tasks, execute, report,
pictures)``, and list it below. It declares two models, and is generic in them, so that nothing is asked for its type:
``Model``, a subclass of :class:`~certnet.study.spec.StudySpec` with ``kind: Literal["name"]``, is the study file;
a subclass of :class:`~certnet.study.tasks.Settings` is what one task is told.

Settings are validated where ``tasks`` makes them, and handed on as they are. They must say everything that the row
depends on, for the digest of their plain values names the row; its seed comes from
:func:`~certnet.study.tasks.seed_for`, so that no result depends on the order or the machine. ``execute`` reads nothing
but its arguments and the data, and knows nothing of folders, workers or other tasks. Status, reason, time, versions and
host are added to the row by its caller.

For all kinds: :mod:`~certnet.study.kinds.splits` reads data sets, :mod:`~certnet.study.kinds.devices` looks for
devices, :mod:`~certnet.study.kinds.statistics` picks, groups and averages rows, and
:mod:`~certnet.study.kinds.reports` makes tables, which are lists of columns, and checks.
"""

from __future__ import annotations

from typing import Any, Final

from certnet.core.errors import InvalidInputError
from certnet.study.kinds import lifted, regularisers
from certnet.study.kinds.base import Kind, Outcome
from certnet.study.kinds.refinement import objectives, robustness, validated
from certnet.study.kinds.reports import Check, Report, ReportTable

__all__ = ["KINDS", "Check", "Kind", "Outcome", "Report", "ReportTable", "kind_named"]

KINDS: Final[dict[str, Kind[Any, Any]]] = {
    module.KIND.name: module.KIND for module in (objectives, robustness, validated, regularisers, lifted)
}


def kind_named(name: object) -> Kind[Any, Any]:
    """The kind of a name.

    Raises
    ------
    InvalidInputError
    """
    if isinstance(name, str) and name in KINDS:
        return KINDS[name]
    raise InvalidInputError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {name!r}")
