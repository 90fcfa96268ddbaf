"""Which block of the interior-point method serves which penalty.

The method knows a penalty through the protocol :class:`~certnet.solvers.block.Block` alone. A new one is a value class
in :mod:`certnet.programs.penalties`, a file with its block, and a line here; its dual bound and its form for CVXPY, the
second implementation, are a function and a line each in :mod:`certnet.solvers.dual_bound` and
:mod:`certnet.solvers.cvxpy_`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from certnet.programs.penalties import LipschitzPenalty, NormPenalty, Penalty
from certnet.solvers.lipschitz_block import LipschitzBlock
from certnet.solvers.norm_block import NormBlock

__all__ = ["BLOCKS"]

BLOCKS: Final[Mapping[type[Penalty], type[LipschitzBlock] | type[NormBlock]]] = MappingProxyType(
    {
        LipschitzPenalty: LipschitzBlock,
        NormPenalty: NormBlock,
    }
)
"""Every one keeps the protocol :class:`~certnet.solvers.block.Block`, is made from a whitened program, and says with
``unit_weight`` which weight of the data's objective is one there."""
