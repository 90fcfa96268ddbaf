"""A data set is checked once and never changes."""

import pickle

import numpy as np
import pytest

from certnet.core.errors import InvalidInputError
from certnet.data import Dataset, Scaling


def _values(**changes):
    rng = np.random.default_rng(0)
    return {
        "name": "toy",
        "X_train": rng.normal(size=(6, 2)),
        "y_train": rng.normal(size=6),
        "X_test": rng.normal(size=(2, 2)),
        "y_test": rng.normal(size=2),
        "feature_names": ("a", "b"),
        "target_name": "t",
        "scaling": Scaling.identity(2),
        "units": "raw",
        "split": 0,
        "source": "made here",
        "licence": "none",
    } | changes


def test_arrays_are_read_only_copies():
    values = _values()
    data = Dataset(**values)
    values["X_train"][0, 0] = 99.0
    assert data.X_train[0, 0] != 99.0
    for copy in (data, pickle.loads(pickle.dumps(data))):
        for array in (copy.X_train, copy.y_train, copy.X_test, copy.y_test):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1.0
    with pytest.raises(AttributeError):
        data.units = "standardised"


def test_repr_is_short():
    text = repr(Dataset(**_values()))
    assert "toy" in text
    assert "array" not in text


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"X_train": np.zeros((6, 3))}, "X_train has shape"),
        ({"X_test": np.zeros((0, 2)), "y_test": np.zeros(0)}, "X_test has shape"),
        ({"y_train": np.zeros(5)}, "y_train has shape"),
        ({"y_train": np.zeros((6, 1))}, "y_train has shape"),
        ({"X_test": np.full((2, 2), np.nan)}, "X_test has 4 entries"),
        ({"feature_names": ("a",)}, "X_train has shape"),
        ({"scaling": Scaling.identity(3)}, "scaling has 3 inputs"),
        ({"units": "metres"}, "units must be one of"),
        ({"scaling": Scaling([0, 0], [2, 2], 0, 1)}, "must be the identity"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, match):
    with pytest.raises(InvalidInputError, match=match):
        Dataset(**_values(**changes))
