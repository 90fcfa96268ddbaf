"""Convex restrictions: the best network of the activation cell that a given network lies in, and beyond."""

from typing import TYPE_CHECKING

from certnet.core.lazily import handed_on

if TYPE_CHECKING:
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

if not TYPE_CHECKING:  # type checkers see the imports above
    __getattr__, __dir__ = handed_on(
        __name__,
        {
            "DescentResult": "certnet.refinement.descent",
            "Floor": "certnet.programs.floor",
            "RefineResult": "certnet.refinement.result",
            "TraceRow": "certnet.refinement.trace",
            "TradeoffPath": "certnet.refinement.path",
            "descend": "certnet.refinement.descent",
            "mean_squared_error": "certnet.programs.objectives",
            "objective": "certnet.programs.objectives",
            "objective_floor": "certnet.programs.floor",
            "refine": "certnet.refinement.refinement",
            "refine_path": "certnet.refinement.path",
            "weight_grid": "certnet.refinement.path",
        },
    )
