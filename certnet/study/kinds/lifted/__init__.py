"""Lifted networks: accuracies, certified radii, energies, linear fractions and filters, as in the tables of H and Z.

H is Høier and Zach (2020), *Lifted regression/reconstruction networks*; Z is Zach and Estellers (2019), *Contrastive
learning for lifted networks*.
"""

from __future__ import annotations

from typing import Final

from certnet.study.kinds.base import Kind
from certnet.study.kinds.lifted.pictures import lifted_pictures
from certnet.study.kinds.lifted.report import lifted_report
from certnet.study.kinds.lifted.runs import lifted_execute
from certnet.study.kinds.lifted.spec import LiftedSpec, lifted_check
from certnet.study.kinds.lifted.tasks import lifted_packages, lifted_tasks

__all__ = ["KIND"]

KIND: Final = Kind(
    "lifted",
    LiftedSpec,
    lifted_tasks,
    lifted_execute,
    lifted_report,
    lifted_pictures,
    check=lifted_check,
    packages=lifted_packages,
)
