"""Convex restrictions: the best network of the activation cell that a given network lies in, and beyond."""

from certnet.restrict.descend import DescentResult, descend
from certnet.restrict.floor import Floor, objective_floor
from certnet.restrict.objective import mean_squared_error, objective
from certnet.restrict.path import TradeoffPath, refine_path, weight_grid
from certnet.restrict.refine import RefineResult, TraceRow, refine

__all__ = [
    "DescentResult",
    "Floor",
    "RefineResult",
    "TraceRow",
    "TradeoffPath",
    "descend",
    "mean_squared_error",
    "objective",
    "objective_floor",
    "refine",
    "refine_path",
    "weight_grid",
]
