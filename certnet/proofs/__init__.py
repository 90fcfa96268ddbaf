"""Why it is true: the checkers of every kind of proof. NumPy and the standard library only."""
