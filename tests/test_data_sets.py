"""The named data sets are what their table says."""

import doctest
import os
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

import certnet.data.load
import certnet.data.scaling
from certnet.core.errors import CertnetWarning, DatasetError, InvalidInputError
from certnet.data import DATASETS, dataset_info, list_datasets, load_dataset, make_rastrigin, rastrigin

needs_files = pytest.mark.skipif(not os.environ.get("CERTNET_DATA_HOME"), reason="CERTNET_DATA_HOME is not set")
UCI = tuple(name for name in DATASETS if dataset_info(name).files)
OPEN = tuple(name for name in UCI if not dataset_info(name).concern)


def _whole(name, split=0, **options):
    """All rows of a set in raw units, the training part first."""
    data = load_dataset(name, split=split, standardise=False, download=False, **options)
    return np.concatenate([data.X_train, data.X_test]), np.concatenate([data.y_train, data.y_test]), data


def test_names():
    assert list_datasets() == DATASETS
    assert DATASETS == ("diabetes", "rastrigin", "servo", "machine", "solar", "wine", "housing")


@pytest.mark.parametrize("name", ["diabetes", "rastrigin", *(pytest.param(n, marks=needs_files) for n in OPEN)])
def test_sizes_and_distinct_rows_are_those_of_the_table(name):
    info = dataset_info(name)
    X, y, data = _whole(name)
    assert X.shape == (info.n_rows, info.n_inputs)
    assert len(np.unique(X, axis=0)) == info.n_distinct
    assert len(data.y_test) in (info.n_rows // 10, info.n_rows // 10 + 1)
    assert len(data.feature_names) == info.n_inputs
    assert (data.units, data.split, data.scaling.is_identity) == ("raw", 0, True)
    assert np.all(np.isfinite(y))
    assert data.source
    assert data.licence


@pytest.mark.parametrize("name", ["diabetes", *(pytest.param(n, marks=needs_files) for n in OPEN)])
def test_every_row_is_in_exactly_one_test_part(name):
    X, y, _ = _whole(name)
    parts = [load_dataset(name, split=k, standardise=False, download=False) for k in range(10)]
    together = np.vstack([np.column_stack([p.X_test, p.y_test]) for p in parts])
    rows = np.column_stack([X, y])
    np.testing.assert_array_equal(np.sort(together.view("V" + str(together.shape[1] * 8)).ravel()), _sorted_rows(rows))
    for k, part in enumerate(parts):
        assert part.split == k
        split_rows = np.vstack(
            [np.column_stack([part.X_train, part.y_train]), np.column_stack([part.X_test, part.y_test])]
        )
        np.testing.assert_array_equal(_sorted_rows(split_rows), _sorted_rows(rows))


def _sorted_rows(rows):
    rows = np.ascontiguousarray(rows)
    return np.sort(rows.view("V" + str(rows.shape[1] * 8)).ravel())


@pytest.mark.parametrize("name", ["diabetes", "rastrigin", *(pytest.param(n, marks=needs_files) for n in OPEN)])
def test_scaling_is_fitted_on_the_training_part_only(name):
    raw = load_dataset(name, split=2, standardise=False, download=False)
    data = load_dataset(name, split=2, download=False)
    assert data.units == "standardised"
    np.testing.assert_allclose(data.X_train.mean(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(data.y_train.std(), 1.0)
    np.testing.assert_allclose(data.scaling.x_shift, raw.X_train.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(data.scaling.transform(raw.X_test), data.X_test)
    np.testing.assert_allclose(data.scaling.inverse_target(data.y_test), raw.y_test, atol=1e-9)


def test_diabetes_is_the_bundled_set_in_raw_units():
    X, y, data = _whole("diabetes")
    bundled = load_diabetes(scaled=False)
    np.testing.assert_array_equal(
        _sorted_rows(np.column_stack([X, y])), _sorted_rows(np.column_stack([bundled.data, bundled.target]))
    )
    assert data.feature_names == tuple(bundled.feature_names)
    assert X[:, 0].min() == 19  # years


def test_diabetes_splits_do_not_change():
    bundled = load_diabetes(scaled=False)
    test = np.random.RandomState(0).permutation(442)
    first = np.sort(test[:45])
    np.testing.assert_array_equal(load_dataset("diabetes", standardise=False).y_test, bundled.target[first])


def test_rastrigin_values():
    np.testing.assert_allclose(rastrigin([[0.0, 0.0], [1.0, -2.0], [0.5, 0.5], [0.25, 0.0]]), [0, 5, 40.5, 10.0625])
    rng = np.random.default_rng(0)
    for x in rng.uniform(-5, 5, size=(20, 3)):
        expected = sum(10 + t * t - 10 * np.cos(2 * np.pi * t) for t in x)
        assert rastrigin(x[None])[0] == pytest.approx(expected, rel=1e-12)


def test_rastrigin_samples_are_seeded_and_fill_their_box():
    X, y = make_rastrigin(500, 3, half_width=2.0, random_state=7)
    again, _ = make_rastrigin(500, 3, half_width=2.0, random_state=7)
    np.testing.assert_array_equal(X, again)
    np.testing.assert_array_equal(y, rastrigin(X))
    assert np.all(np.abs(X) <= 2.0)
    assert np.all(np.abs(X).max(axis=0) > 1.9)
    assert not np.array_equal(X, make_rastrigin(500, 3, half_width=2.0, random_state=8)[0])


def test_rastrigin_splits_are_samples_of_their_own():
    first, second = _whole("rastrigin", 0), _whole("rastrigin", 1)
    assert len(np.unique(np.vstack([first[0], second[0]]), axis=0)) == 2000
    np.testing.assert_array_equal(first[0], _whole("rastrigin", 0)[0])
    np.testing.assert_array_equal(first[1], rastrigin(first[0]))
    assert first[2].X_test.shape == (100, 2)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [((0,), "at least 1"), ((5, 0), "at least 1")],
)
def test_rastrigin_refuses_empty_samples(arguments, match):
    with pytest.raises(InvalidInputError, match=match):
        make_rastrigin(*arguments)
    with pytest.raises(InvalidInputError, match="half_width must be"):
        make_rastrigin(half_width=-1.0)


@needs_files
def test_solar_has_a_constant_last_input_that_maps_to_zero():
    data = load_dataset("solar", download=False)
    assert np.ptp(data.X_train[:, -1]) == 0
    assert data.scaling.x_scale[-1] == 1.0
    np.testing.assert_array_equal(data.X_test[:, -1], 0.0)
    assert len(np.unique(np.round(_whole("solar")[1], 3))) == 8  # counts of flares


@needs_files
def test_wine_has_quality_as_input_and_alcohol_as_target():
    X, y, data = _whole("wine")
    assert data.feature_names[-1] == "quality"
    assert len(np.unique(X[:, -1])) == 6
    assert data.target_name == "alcohol"
    assert np.ptp(y) == pytest.approx(14.9 - 8.4)  # per cent by volume


@needs_files
def test_machine_has_two_rows_far_outside():
    X, _, _ = _whole("machine")
    assert np.sum(X[:, 0] > 100 * np.median(np.abs(X[:, 0]))) == 2


@needs_files
def test_files_of_the_data_home_are_found_by_argument(monkeypatch, tmp_path):
    home = os.environ["CERTNET_DATA_HOME"]
    monkeypatch.delenv("CERTNET_DATA_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_dataset("servo", data_home=home, download=False).X_train.shape == (151, 4)


def test_housing_is_never_loaded_by_accident():
    with pytest.raises(DatasetError, match=r"ethically problematic.*acknowledge_ethics=True"):
        load_dataset("housing")


@needs_files
def test_housing_is_loaded_with_a_warning_when_asked_for():
    with pytest.warns(CertnetWarning, match="ethically problematic") as caught:
        X, _, data = _whole("housing", acknowledge_ethics=True)
    assert X.shape == (506, 13)
    assert data.feature_names[11] == "B"
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("Servo", "Did you mean 'servo'"),
        ("diabets", "Did you mean 'diabetes'"),
        ("zzz", "the names are diabetes.*housing.$"),
    ],
)
def test_unknown_names_are_answered_with_the_list(name, match):
    with pytest.raises(DatasetError, match=match):
        load_dataset(name)


@pytest.mark.parametrize("name", [None, 3, ["servo"]])
def test_names_of_another_type(name):
    with pytest.raises(DatasetError, match="there is no data set"):
        load_dataset(name)


@pytest.mark.parametrize("split", [-1, 10, 1.0, "0", None, True])
def test_split_must_be_an_integer_from_0_to_9(split):
    with pytest.raises(InvalidInputError, match="split must be an integer from 0 to 9"):
        load_dataset("rastrigin", split=split)


def test_split_may_be_a_numpy_integer():
    assert load_dataset("rastrigin", split=np.int64(4)).split == 4


@pytest.mark.parametrize("module", [certnet.data.load, certnet.data.scaling])
def test_examples_of_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_documentation_lists_every_set_with_its_size():
    page = Path(__file__).parents[1] / "docs" / "data.md"
    if not page.exists():
        pytest.skip("docs/ is not part of this distribution")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+ × \d+) \|", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert rows == {name: f"{dataset_info(name).n_rows} × {dataset_info(name).n_inputs}" for name in DATASETS}
