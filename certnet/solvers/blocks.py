"""Which block of the interior-point method serves which penalty."""

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
