r"""Samples with and without targets in one batch.

Of N samples N_l have a target and N_u have none. Every batch holds n of the first and m of the second, and estimates

    (1/N_l) Σ_{i labelled} d_i + α (1/N) Σ_i E_i     by     (1/n) Σ_labelled d_i + α ( (N_l/(N n)) Σ_labelled E_i
                                                            + (N_u/(N m)) Σ_unlabelled E_i )

whose mean over all batches is that, whatever n and m are: a hundred labels among 60 000 images are seen in every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.lifted.learn.settings import Training

__all__ = ["Mixture", "labelled_rows"]

Rows = NDArray[np.intp]


def labelled_rows(targets: Float) -> NDArray[np.bool_]:
    """Which samples have a target, (N,), where NaN stands for none in targets (N, n_L) or labels (N,).

    Raises
    ------
    InvalidInputError
        A target that is partly NaN, or none at all.
    """
    missing = np.isnan(targets.reshape(len(targets), -1))
    partly = missing.any(axis=1) & ~missing.all(axis=1)
    if partly.any():
        i = int(np.argmax(partly))
        raise InvalidInputError(f"y[{i}] is partly NaN: a sample has its whole target, or NaN throughout for none")
    known: NDArray[np.bool_] = np.logical_not(missing.all(axis=1))
    if not known.any():
        raise InvalidInputError(
            "no sample has a target: the objective 'semi_supervised' needs some, 'unsupervised' none"
        )
    return known


@dataclass(frozen=True, eq=False)
class Mixture:
    """Both groups of samples, and how batches are made of them.

    Attributes
    ----------
    labelled, unlabelled : ndarray of int, shapes (N_l,), (N_u,)
    n, m : int
        Of each in a batch.
    contrast : ndarray, shape (N_l,)
        Weights of the labelled samples, of mean one.
    energy : ndarray, shape (N,)
        α times the weights of all samples, of sum α.
    """

    labelled: Rows
    unlabelled: Rows
    n: int
    m: int
    contrast: Float
    energy: Float

    @classmethod
    def of(cls, targets: Float, how: Training, weights: Float | None) -> Self:
        """For targets (N, n_L) or labels (N,) with NaN where there is none, and weights (N,) of mean one.

        Raises
        ------
        InvalidInputError
            No targets, targets that weigh nothing, or batches of a single sample.
        """
        known = labelled_rows(targets)
        labelled, unlabelled = np.flatnonzero(known), np.flatnonzero(~known)
        size, others = how.batch_size, len(unlabelled)
        if others and size < 2:
            raise InvalidInputError(f"batch_size is {size}: 'semi_supervised' needs 2 or more, a sample of either kind")
        least, most = max(1, size - others), min(len(labelled), size - (others > 0))
        n = min(max(round(how.labelled_share * size), least), most)
        shares = np.ones(len(targets)) if weights is None else weights
        own = shares[labelled]
        if not own.any():
            raise InvalidInputError("sample_weight is zero for all samples that have a target")
        energy = how.objective.unsupervised_weight * shares / len(shares)
        return cls(labelled, unlabelled, n, size - n, own / own.mean(), energy)

    @property
    def batches(self) -> int:
        """Batches of an epoch: the larger group, in batches, is passed over once."""
        others = -(-len(self.unlabelled) // self.m) if self.m else 0
        return max(-(-len(self.labelled) // self.n), others)

    def epoch(self, generator: np.random.Generator) -> Iterator[tuple[Rows, Float, Float]]:
        """Rows of each batch, those with targets first, and their weights: (n,) and (n + m,)."""
        count, N_l, N_u = self.batches, len(self.labelled), len(self.unlabelled)
        first = _drawn(N_l, count * self.n, generator)
        second = _drawn(N_u, count * self.m, generator)
        for k in range(count):
            own = first[k * self.n : (k + 1) * self.n]
            rows = np.concatenate([self.labelled[own], self.unlabelled[second[k * self.m : (k + 1) * self.m]]])
            energy = self.energy[rows]
            energy[: self.n] *= N_l / self.n
            energy[self.n :] *= N_u / max(1, self.m)
            yield rows, self.contrast[own] / self.n, energy


def _drawn(n: int, total: int, generator: np.random.Generator) -> Rows:
    """So many of n things, in orders drawn one after the other."""
    rounds = -(-total // n) if n else 0
    orders = [generator.permutation(n) for _ in range(rounds)]
    return np.concatenate([np.empty(0, np.intp), *orders])[:total]
