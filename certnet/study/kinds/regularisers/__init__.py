"""Regularised spectral norms, layer by layer or coupled, as in C: errors under noise, norms, and certified bounds.

Source: Couellan, *The coupling effect of Lipschitz regularization in neural networks*, SN Computer Science 2 (2021),
"C" below, sections 2 and 3. Added here: his constrained form, which he states and does not solve, and the LipSDP bound
beside the product of norms.
"""

from __future__ import annotations

from typing import Final

from certnet.study.kinds.base import Kind
from certnet.study.kinds.regularisers.pictures import regulariser_pictures
from certnet.study.kinds.regularisers.report import regulariser_report
from certnet.study.kinds.regularisers.runs import regulariser_execute
from certnet.study.kinds.regularisers.spec import RegularisersSpec, regulariser_check
from certnet.study.kinds.regularisers.tasks import regulariser_tasks

__all__ = ["KIND"]

KIND: Final = Kind(
    "regularisers",
    RegularisersSpec,
    regulariser_tasks,
    regulariser_execute,
    regulariser_report,
    regulariser_pictures,
    check=regulariser_check,
    packages=lambda task: ("torch",),
)
