"""The diabetes data that scikit-learn brings along: nothing to download."""

from __future__ import annotations

import numpy as np

from certnet.data.samples import N_SPLITS, Samples

__all__ = ["diabetes"]


def diabetes(split: int) -> Samples:
    """The 442 patients in raw units (years, mmHg, …); the test part is fold ``split`` of a shuffled ten-fold split.

    Every row is in the test part of exactly one split. The shuffle uses ``random_state=0``, whose stream NumPy keeps
    unchanged across versions.
    """
    # imported here: scikit-learn takes longer to import than the rest of certnet.data together
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import KFold

    X, y = load_diabetes(return_X_y=True, scaled=False)
    folds = list(KFold(N_SPLITS, shuffle=True, random_state=0).split(X))
    is_test = np.zeros(len(y), dtype=np.bool_)
    is_test[folds[split][1]] = True
    return Samples(X, y, is_test)
