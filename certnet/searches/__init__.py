"""How a proof is found: multipliers, trees and witnesses in floating point; none of it is trusted."""
