"""Convex restrictions: the best network of the activation cell that a given network lies in, and beyond."""

from certnet.programs.floor import Floor, objective_floor
from certnet.programs.objectives import mean_squared_error, objective
from certnet.refinement.descent import DescentResult, descend
from certnet.refinement.path import TradeoffPath, refine_path, weight_grid
from certnet.refinement.refinement import refine
from certnet.refinement.result import RefineResult
from certnet.refinement.trace import TraceRow

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
