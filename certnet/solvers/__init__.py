"""Solvers of the restriction, one file each: a :class:`~certnet.programs.restriction.Restriction` in, a point out."""
