"""Starting networks and what refinement makes of them, as in Y: the kinds :mod:`objectives`, :mod:`robustness` and
:mod:`validated`.

Y is Yin & Lesage-Landry, *Convex training of Lipschitz-regularized shallow neural networks*, arXiv 2606.19652 (2026).
The first two have the same tasks and rows, and ask them other questions; in the third every network chooses its weight.
"""
