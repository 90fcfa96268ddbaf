"""Image sets are found, recognised, and held as values that do not change."""

import hashlib
import os
import pickle
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_files import TOY, idx_bytes, load_toy, sample, write_idx_files, write_npz_file

from certnet.core.errors import CertnetWarning, DatasetError, FileFormatError, InvalidInputError
from certnet.data import (
    IMAGE_SETS,
    ImageDataset,
    image_info,
    load_images,
)
from certnet.data.image_arrays import LabelledImages
from certnet.data.image_content import content_digest


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data folder of this test's own, and no other."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CERTNET_DATA_HOME", raising=False)
    (tmp_path / "home" / "images").mkdir(parents=True)
    return tmp_path / "home"


needs_files = pytest.mark.skipif(not os.environ.get("CERTNET_DATA_HOME"), reason="CERTNET_DATA_HOME is not set")


@pytest.mark.parametrize("form", ["npz", "idx", "idx.gz", "idx with a dot"])
def test_every_form_gives_the_same_set(home, form):
    train, test = sample(40), sample(20, seed=1)
    if form == "npz":
        write_npz_file(home / "images" / "mnist.npz", train=train, test=test)
    else:
        sign = "." if "dot" in form else "-"
        write_idx_files(home / "images" / "mnist", train, test, packed=form.endswith("gz"), sign=sign)
    data = load_toy(home)
    assert data.X_train.dtype == np.float32
    np.testing.assert_array_equal(data.X_train, (train.images.reshape(40, 12) / 255).astype(np.float32))
    np.testing.assert_array_equal(data.y_test, test.labels)
    np.testing.assert_allclose(data.images("test") * 255, test.images, rtol=1e-6)
    assert "could not be checked" in data.notes
    raw = load_toy(home, scale=False, flatten=False)
    np.testing.assert_array_equal(raw.X_train, train.images)
    assert raw.X_train.dtype == np.uint8
    only = load_toy(home, part="test")
    assert only.X_train.shape == (0, 12)
    np.testing.assert_array_equal(only.X_test, data.X_test)


def test_files_are_looked_for_in_order(home, monkeypatch):
    first, second = home / "first", home / "second"
    for folder, seed in ((first, 1), (second, 2)):
        (folder / "images").mkdir(parents=True)
        write_npz_file(folder / "images" / "mnist.npz", train=sample(40, seed=seed), test=sample(20))
    monkeypatch.setenv("CERTNET_DATA_HOME", str(second))
    np.testing.assert_array_equal(load_toy(first, scale=False, flatten=False).X_train, sample(40, seed=1).images)
    np.testing.assert_array_equal(load_toy(None, scale=False, flatten=False).X_train, sample(40, seed=2).images)


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_absent_files_say_where_to_get_them_and_where_to_put_them(home, name):
    with pytest.raises(DatasetError, match="CERTNET_DATA_HOME is not set") as caught:
        load_images(name, data_home=home)
    message = str(caught.value)
    assert image_info(name).address in message
    assert f"images/{image_info(name).file}" in message
    assert str(home) in message


def test_names_folders_and_parts_that_do_not_exist(home):
    with pytest.raises(DatasetError, match="Did you mean 'fashion_mnist'"):
        load_images("Fashion-MNIST")
    with pytest.raises(DatasetError, match="holds images/"):
        load_images("mnist", data_home=home / "none")
    with pytest.raises(InvalidInputError, match="part must be one of 'all', 'train', 'test'"):
        load_images("mnist", part="validation")


def test_half_a_set_can_be_loaded_by_its_half(home):
    folder = home / "images" / "mnist"
    write_idx_files(folder, sample(40), sample(20), packed=True)
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    assert len(load_toy(home, part="test").X_test) == 20
    with pytest.raises(DatasetError, match="lacks the files of the train part"):
        load_toy(home)


def test_a_test_part_alone_is_divided_with_a_warning(home):
    info = replace(TOY, class_names=("a", "b"))
    whole = LabelledImages(sample(20).images, np.arange(20) % 2)
    write_npz_file(home / "images" / "mnist_test.npz", all=whole)
    with pytest.warns(CertnetWarning, match="only the test part"):
        data = load_toy(home, info, scale=False, flatten=False)
    # by hand: the fifth and tenth of the even rows, then of the odd ones
    np.testing.assert_array_equal(data.X_test, whole.images[[8, 9, 18, 19]])
    np.testing.assert_array_equal(data.X_train, np.delete(whole.images, [8, 9, 18, 19], axis=0))
    np.testing.assert_array_equal(data.y_test, [0, 1, 0, 1])
    assert "not those of the full set" in data.notes


def test_content_is_recognised_doubted_or_refused(home):
    train, test = sample(40), sample(20, seed=1)
    write_npz_file(home / "images" / "mnist.npz", train=train, test=test)
    known = replace(TOY, digests={"train": content_digest(train), "test": content_digest(test)})
    assert load_toy(home, known).notes == ""  # and no warning, which would be an error here
    with pytest.warns(CertnetWarning, match="not its content"):
        data = load_toy(home, replace(TOY, digests={"test": content_digest(train)}), part="test")
    assert "not its content" in data.notes
    with pytest.raises(FileFormatError, match=r"have shape \(40, 3, 4\), those of mnist have \(60000, 28, 28\)"):
        load_images("mnist", data_home=home)


def test_the_digest_is_that_of_the_idx_files():
    data = sample(7, shape=(2, 5))
    assert content_digest(data).images == hashlib.md5(idx_bytes(data.images)).hexdigest()
    assert content_digest(data).labels == hashlib.md5(idx_bytes(data.labels)).hexdigest()


def test_a_set_in_the_wrong_place_is_refused(home, monkeypatch):
    train, test = sample(40), sample(20, seed=1)
    write_npz_file(home / "images" / "mnist.npz", train=train, test=test)
    other = replace(TOY, name="other", digests={"test": content_digest(test)})
    monkeypatch.setattr("certnet.data.image_content.IMAGE_REGISTRY", {"other": other})
    with pytest.raises(FileFormatError, match="the test part holds the images of other"):
        load_toy(home)


@needs_files
def test_mnist_is_the_original():
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_images("mnist")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (data.X_train.shape, data.X_test.shape) == ((60000, 784), (10000, 784))
    assert data.notes == ""  # the sums published for the original IDX files
    np.testing.assert_array_equal(data.y_train[:10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
    np.testing.assert_allclose(data.X_train.mean(dtype=np.float64), 0.13066, atol=1e-5)
    assert peak < 1.7 * (data.X_train.nbytes + data.X_test.nbytes)


@needs_files
def test_kmnist_is_whole_or_made_of_its_test_part():
    home = Path(os.environ["CERTNET_DATA_HOME"])
    if (home / "images" / "kmnist.npz").exists() or (home / "images" / "kmnist").exists():
        pytest.skip("the full set is there")
    with pytest.warns(CertnetWarning, match="only the test part"):
        data = load_images("kmnist")
    np.testing.assert_array_equal(np.bincount(data.y_test), np.full(10, 200))
    np.testing.assert_array_equal(np.bincount(data.y_train), np.full(10, 800))
    assert "content" not in data.notes


def _values(**changes):
    data = sample(6)
    X = (data.images / 255).reshape(6, 12)
    values = {"name": "toy", "X_train": X[:4], "y_train": data.labels[:4], "X_test": X[4:], "y_test": data.labels[4:]}
    values |= {"height": 3, "width": 4, "channels": 1, "class_names": tuple("012345"), "source": "", "licence": ""}
    return values | changes


def test_images_are_read_only_views_and_stay_so_in_copies():
    values = _values()
    data = ImageDataset(**values)
    assert np.shares_memory(data.X_train, values["X_train"])
    assert values["X_train"].flags.writeable
    for copy in (data, pickle.loads(pickle.dumps(data))):
        assert copy.images("train").shape == (4, 3, 4)
        for array in (copy.X_train, copy.y_train, copy.X_test, copy.y_test, copy.images("test")):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
    assert "array" not in repr(data)
    assert data.n_classes == 6
    with pytest.raises(InvalidInputError, match="part must be"):
        data.images("all")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"X_train": np.zeros((4, 11))}, "X_train has shape"),
        ({"X_train": np.zeros((4, 4, 3))}, "X_train has shape"),
        ({"X_train": np.zeros((4, 12), np.int64)}, "dtype int64"),
        ({"X_test": np.full((2, 12), np.nan)}, "pixels from nan"),
        ({"X_test": np.full((2, 12), 1.5)}, "pixels from 1.5"),
        ({"X_test": np.full((2, 12), -0.5)}, "pixels from -0.5"),
        ({"X_test": np.zeros((2, 12), np.float32)}, "differ in more"),
        ({"y_train": np.zeros(3, int)}, "one integer for each of 4"),
        ({"y_train": np.zeros(4)}, "one integer for each of 4"),
        ({"y_train": np.full(4, 6)}, "there are 6 classes"),
        ({"y_train": np.full(4, -1)}, "labels from -1"),
        ({"height": 0}, "height must be at least 1"),
        ({k: np.zeros((0, 12)) for k in ("X_train", "X_test")}, "one integer for each of 0"),
        (
            {k: np.zeros((0, 12)) for k in ("X_train", "X_test")}
            | {k: np.zeros(0, int) for k in ("y_train", "y_test")},
            "no image",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, match):
    with pytest.raises(InvalidInputError, match=match):
        ImageDataset(**_values(**changes))
