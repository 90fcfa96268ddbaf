"""Mirrored, grey and Gaussian images, and validation parts, against second computations."""

import colorsys

import numpy as np
import pytest

from certnet.core.errors import InvalidInputError
from certnet.data import gaussian_like, grey, mirrored, split_off


def _images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 3)])
def test_mirrored_exchanges_left_and_right_only(shape):
    images = _images(*shape)
    result = mirrored(images)
    for n in range(3):
        np.testing.assert_array_equal(result[n], np.fliplr(images[n]))
    assert not np.shares_memory(result, images)
    np.testing.assert_array_equal(mirrored(result), images)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_grey_is_the_y_of_yiq_and_keeps_white_and_black(dtype):
    images = (_images(4, 5, 6, 3) / 255).astype(dtype)
    luma = grey(images)
    assert luma.dtype == dtype
    for place in np.ndindex(4, 5, 6):
        # colorsys rounds the weights to two digits
        assert abs(colorsys.rgb_to_yiq(*map(float, images[place]))[0] - luma[place]) < 0.006
    np.testing.assert_allclose(luma, images @ np.array([0.299, 0.587, 0.114]), atol=1e-6)
    equal = np.repeat(np.linspace(0, 1, 256, dtype=dtype)[:, None], 3, axis=1)
    np.testing.assert_allclose(grey(equal), equal[:, 0], atol=1e-7)
    assert grey(equal).max() <= 1


def test_grey_of_bytes_is_rounded():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(grey(np.stack([values] * 3, axis=-1)), values)
    assert grey(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)).tolist() == [[76, 150, 29]]


def test_gaussian_has_the_mean_and_spread_of_the_data_and_no_correlation():
    X = np.random.default_rng(0).uniform(size=(5000, 3)) * [1, 2, 0] + [0, 0, 7]
    X[:, 1] += X[:, 0]
    draws = gaussian_like(X, 40000, 1)
    np.testing.assert_allclose(draws.mean(axis=0), X.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(draws.std(axis=0), X.std(axis=0), atol=0.01)
    assert abs(np.corrcoef(X[:, 0], X[:, 1])[0, 1]) > 0.3
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.03
    assert np.all(draws[:, 2] == 7)
    assert draws.min() < X.min()  # not clipped


def test_gaussian_keeps_shape_and_type_and_repeats():
    X = (_images(9000, 2, 3) / 255).astype(np.float32)
    draws = gaussian_like(X, 5, np.random.default_rng(3))
    assert (draws.shape, draws.dtype) == ((5, 2, 3), np.float32)
    np.testing.assert_array_equal(draws, gaussian_like(X, 5, 3))
    assert np.any(draws != gaussian_like(X, 5, 4))
    mean, deviation = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    expected = mean + deviation * np.random.default_rng(3).normal(size=(5, 2, 3))
    np.testing.assert_allclose(draws, expected, rtol=1e-5, atol=1e-6)


def test_split_is_stratified_complete_and_ordered():
    y = np.repeat([0, 1, 5], [100, 37, 2])
    X = np.arange(139)[:, None]
    X_rest, y_rest, X_split, y_split = split_off(X, y, 0.2, 0)
    np.testing.assert_array_equal(np.sort(np.concatenate([X_rest, X_split]), axis=0), X)
    assert np.all(np.diff(X_rest[:, 0]) > 0)
    np.testing.assert_array_equal(y[X_rest[:, 0]], y_rest)
    assert dict(zip(*np.unique(y_split, return_counts=True))) == {0: 20, 1: 7, 5: 1}
    np.testing.assert_array_equal(X_split, split_off(X, y, 0.2, 0)[2])
    assert np.any(X_split != split_off(X, y, 0.2, 1)[2])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mirrored(np.zeros((4, 12))), r"shape \(4, 12\)"),
        (lambda: grey(np.zeros((4, 3, 4))), "red, green and blue"),
        (lambda: grey(np.zeros((4, 3), dtype=int)), "dtype int64"),
        (lambda: gaussian_like(np.zeros((4, 3), dtype=np.uint8), 2), "float pixels"),
        (lambda: gaussian_like(np.zeros((0, 3)), 2), "float pixels"),
        (lambda: gaussian_like(np.full((4, 3), np.nan), 2), "NaN or infinite"),
        (lambda: gaussian_like(np.zeros((4, 3)), 0), "n must be at least 1"),
        (lambda: split_off(np.zeros((4, 3)), [0, 0, 1, 1], 1.0), "fraction must be"),
        (lambda: split_off(np.zeros((4, 3)), [0, 0, 1, 1], float("nan")), "fraction must be"),
        (lambda: split_off(np.zeros((4, 3)), [0, 0, 1], 0.5), "one integer for each row"),
        (lambda: split_off(np.zeros((4, 3)), [0.0, 0, 1, 1], 0.5), "one integer for each row"),
        (lambda: split_off(np.zeros((4, 3)), [0, 0, 0, 1], 0.5), "class 1 has one member"),
    ],
)
def test_bad_arguments(call, match):
    with pytest.raises(InvalidInputError, match=match):
        call()
