"""Solvers of others: one file each, detected without importing them."""
