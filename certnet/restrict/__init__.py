"""Convex restrictions: the best network of the activation cell that a given network lies in."""

from certnet.restrict.objective import mean_squared_error, objective
from certnet.restrict.refine import RefineResult, TraceRow, refine

__all__ = ["RefineResult", "TraceRow", "mean_squared_error", "objective", "refine"]
