"""Kinds of study, by name.

A kind is a value, :class:`~certnet.study.kinds.base.Kind`: a pydantic model of the study file and these functions.

    tasks(study)               all tasks, each after those that it needs
    execute(task, artifacts)   one task, in a worker: a row of plain values, and bytes for the tasks that need it
    report(study, rows)        tables, checks and paragraphs for the page
    pictures(study, rows)      matplotlib figures by name
    check(study)               where more than data sets is needed: is it there? A refusal names file and line

To add one, write a module here that ends in ``KIND = Kind("name", Model, tasks, execute, report, pictures)``, with
``Model`` a subclass of :class:`~certnet.study.spec.StudySpec` that declares ``kind: Literal["name"]``, and list it
below.

A task's settings must say everything that its row depends on, for their digest names the row; its seed comes from
:func:`~certnet.study.tasks.seed_for`, so that no result depends on the order or the machine. ``execute`` reads nothing
but its arguments and the data, and knows nothing of folders, workers or other tasks. Status, reason, time, versions and
host are added to the row by its caller. :mod:`certnet.study.kinds.splits` reads data sets,
:mod:`certnet.study.kinds.evaluation` measures a shallow network as all studies do.
"""

from __future__ import annotations

from typing import Final

from certnet.core.errors import InvalidInputError
from certnet.study.kinds import lifted, objectives, regularisers, robustness
from certnet.study.kinds.base import Check, Kind, Outcome, Report, ReportTable, Row

__all__ = ["KINDS", "Check", "Kind", "Outcome", "Report", "ReportTable", "Row", "kind_named"]

KINDS: Final = {module.KIND.name: module.KIND for module in (objectives, robustness, regularisers, lifted)}


def kind_named(name: object) -> Kind:
    """The kind of a name.

    Raises
    ------
    InvalidInputError
    """
    if isinstance(name, str) and name in KINDS:
        return KINDS[name]
    raise InvalidInputError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {name!r}")
