"""Lifted networks: accuracies, certified radii, energies, linear fractions and filters, as in the tables of H and Z.

H is Høier and Zach (2020), *Lifted regression/reconstruction networks*; Z is Zach and Estellers (2019), *Contrastive
learning for lifted networks*.
"""

from __future__ import annotations

from certnet.study.kinds.base import Kind
from certnet.study.kinds.lifted_pictures import lifted_pictures
from certnet.study.kinds.lifted_report import lifted_report
from certnet.study.kinds.lifted_spec import LiftedSpec
from certnet.study.kinds.lifted_tasks import lifted_check, lifted_execute, lifted_tasks

__all__ = ["KIND"]

KIND = Kind("lifted", LiftedSpec, lifted_tasks, lifted_execute, lifted_report, lifted_pictures, check=lifted_check)
