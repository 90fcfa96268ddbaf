"""Solvers of the restriction, one file each, behind one contract.

:func:`certnet.solvers.choice.solver_named` gives a solver, a value that holds its tolerance; its
``solve(program, start=…, watch=…)`` gives a :class:`~certnet.solvers.solved.Solved`, whichever it is.
"""
