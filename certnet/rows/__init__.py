"""Samples in memory, on disk or on a cluster: sums over their rows that do not depend on where they are."""

from certnet.rows.base import Description, Layout, Rows
from certnet.rows.block import Block
from certnet.rows.check import Columns
from certnet.rows.memory import MemoryRows
from certnet.rows.opening import rows_of

__all__ = ["Block", "Columns", "Description", "Layout", "MemoryRows", "Rows", "rows_of"]
