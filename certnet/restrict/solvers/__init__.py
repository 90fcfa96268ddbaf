"""Solvers of the restriction, one file each: a :class:`~certnet.restrict.program.Restriction` in, a point out."""
