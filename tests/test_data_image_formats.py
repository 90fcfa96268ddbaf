"""IDX and NPZ files are read strictly: what is damaged is refused with its path."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from image_files import (
    idx_bytes,
    pickled_by_python_2,
    sample,
    write_npz_file,
)

from certnet.core.errors import FileFormatError
from certnet.data import (
    read_idx,
    read_npz_images,
)
from certnet.data.cifar_pickle import unpickle_batch


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3), (5, 2, 3, 3)])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_comes_back(tmp_path, shape, packed):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    content = idx_bytes(array)
    (tmp_path / "file").write_bytes(gzip.compress(content) if packed else content)
    np.testing.assert_array_equal(read_idx(tmp_path / "file"), array)


_GOOD = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not an IDX file"),
        (b"\x00\x00\x08", "not an IDX file"),
        (b"PK\x03\x04" + _GOOD, "not an IDX file"),
        (_GOOD[:10], "ends within its header"),
        (_GOOD[:-1], r"= 24 bytes and holds 23"),
        (_GOOD + b"\x00", r"= 24 bytes and holds more"),
        (_GOOD[:2] + b"\x0d" + _GOOD[3:], "holds floats: only unsigned bytes"),
        (_GOOD[:2] + b"\x77" + _GOOD[3:], "unknown type 119"),
        (_GOOD[:3] + b"\x02" + _GOOD[4:], r"2 dimension\(s\)"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**31, 4), "too large"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**10, 2**10, 2**10), "and holds 0"),
        (gzip.compress(_GOOD, mtime=0)[:-10], "cannot be read"),
        (gzip.compress(_GOOD, mtime=0)[:-8] + b"\x00" * 8, "cannot be read"),
        (b"\x1f\x8b garbage", "cannot be read"),
    ],
)
def test_damaged_idx(tmp_path, content, match):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(FileFormatError, match=match) as caught:
        read_idx(tmp_path / "bad")
    assert str(tmp_path / "bad") in str(caught.value)


def test_missing_idx(tmp_path):
    with pytest.raises(FileFormatError, match="does not exist"):
        read_idx(tmp_path / "none")
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_idx(tmp_path)


def test_npz_parts_columns_first_and_labels_of_keras(tmp_path):
    data = sample(6, shape=(2, 3, 3))
    np.savez(
        tmp_path / "a.npz",
        x_train=np.asfortranarray(data.images),
        y_train=data.labels[:, None].astype(">i2"),
        other=1.5,
    )
    parts = read_npz_images(tmp_path / "a.npz", n_classes=6)
    assert list(parts) == ["train"]
    np.testing.assert_array_equal(parts["train"].images, data.images)
    np.testing.assert_array_equal(parts["train"].labels, data.labels)


_IMAGES = np.zeros((2, 3, 4), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"a": _IMAGES}, "has none of the arrays"),
        ({"x": _IMAGES}, "has no array y: it holds x"),
        ({"x": _IMAGES, "y": [0, 1, 2]}, "one label each"),
        ({"x": _IMAGES, "y": [0.0, 1.0]}, "dtype float64"),
        ({"x": _IMAGES, "y": [0, -1]}, "labels from -1 to 0"),
        ({"x": _IMAGES, "y": [0, 10]}, "labels from 0 to 10.*below 10"),
        ({"x": _IMAGES, "y": np.array([0, 2**64 - 1], dtype=np.uint64)}, "below 10"),
        ({"x": _IMAGES.astype(np.int64), "y": [0, 1]}, "dtype int64, uint8"),
        ({"x": _IMAGES.astype(np.float32), "y": [0, 1]}, "dtype float32"),
        ({"x": _IMAGES.reshape(2, 12), "y": [0, 1]}, r"shape \(2, 12\)"),
        ({"x": _IMAGES[:0], "y": np.zeros(0, int)}, r"shape \(0, 3, 4\)"),
        ({"x": _IMAGES, "y": np.array(["a", None], dtype=object)}, "dtype object"),
    ],
)
def test_npz_with_other_arrays(tmp_path, arrays, match):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(FileFormatError, match=match) as caught:
        read_npz_images(tmp_path / "bad.npz", n_classes=10)
    assert "bad.npz" in str(caught.value)


def _npz_with(path, header_shape, content):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": header_shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + content)
        archive.writestr("y.npy", b"nothing")


@pytest.mark.parametrize(
    ("shape", "size", "match"),
    [((2, 2, 2), 7, "holds 7"), ((2, 2, 2), 9, "holds more"), ((2**20, 2**20, 3), 5, "too large")],
)
def test_npz_whose_header_lies(tmp_path, shape, size, match):
    _npz_with(tmp_path / "bad.npz", shape, b"\x00" * size)
    with pytest.raises(FileFormatError, match=match):
        read_npz_images(tmp_path / "bad.npz")


def test_damaged_npz(tmp_path):
    path = tmp_path / "a.npz"
    write_npz_file(path, all=sample(50))
    content = path.read_bytes()
    for bad, match in ((content[:-30], "not an NPZ file"), (b"", "not an NPZ file"), (b"text", "not an NPZ file")):
        path.write_bytes(bad)
        with pytest.raises(FileFormatError, match=match):
            read_npz_images(path)
    middle = 300
    path.write_bytes(content[:middle] + bytes(255 - b for b in content[middle : middle + 20]) + content[middle + 20 :])
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_npz_images(path)
    _npz_with(path, (2, 2, 2), b"\x00" * 8)
    with pytest.raises(FileFormatError, match=r"\(y\) cannot be read"):
        read_npz_images(path)
    with pytest.raises(FileFormatError, match="does not exist"):
        read_npz_images(tmp_path / "none.npz")


@pytest.mark.parametrize("kind", ["pickle", "idx", "idx.gz", "npz"])
def test_flipped_bytes_never_raise_anything_else(tmp_path, kind):
    path, rng = tmp_path / "file", np.random.default_rng(0)
    if kind == "npz":
        with path.open("wb") as file:
            np.savez(file, x=_IMAGES, y=[0, 1])
        good = path.read_bytes()
    else:
        good = {"pickle": pickled_by_python_2(sample(1, (32, 32, 3))), "idx": _GOOD, "idx.gz": gzip.compress(_GOOD)}[
            kind
        ]
    refused = 0
    # the pixels at the end of the pickle may change freely: its beginning is what matters
    for _ in range(300):
        bad = bytearray(good)
        bad[rng.integers(0, min(len(bad), 200 if kind == "pickle" else 10**6))] = rng.integers(0, 256)
        path.write_bytes(bad)
        try:
            if kind == "pickle":
                unpickle_batch(bytes(bad), "here")
            else:
                (read_npz_images if kind == "npz" else read_idx)(path)
        except FileFormatError:
            refused += 1
    assert refused > 50
