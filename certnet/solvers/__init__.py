"""Solvers of the restriction, one file each, behind one call: :func:`certnet.solvers.choice.solver_named` chooses."""
