"""Networks as immutable values: layers of a linear operator, a bias and an activation; lifted energies."""
