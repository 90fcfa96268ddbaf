"""CIFAR-10 is read in every form its authors publish, and no pickle runs anything."""

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from image_files import FORMS, TOY_CIFAR, batches, load_toy, pack, pickled, pickled_by_python_2, sample, write_cifar

from certnet.core.errors import FileFormatError
from certnet.data.cifar import read_cifar10
from certnet.data.cifar_pickle import unpickle_batch


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data folder of this test's own, and no other."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CERTNET_DATA_HOME", raising=False)
    (tmp_path / "home" / "images").mkdir(parents=True)
    return tmp_path / "home"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["folder", "folder in the set's", "set's folder", "archive", "archive in the set's"])
def test_cifar_in_every_form(home, form, where):
    images, version = home / "images", "cifar-10-batches-bin" if form == "bin" else "cifar-10-batches-py"
    place = {"folder": images / version, "set's folder": images / "cifar10"}.get(where, images / "cifar10" / version)
    if where.startswith("archive"):
        place = home / version
        (images / "cifar10").mkdir()
    write_cifar(place, form)
    if where.startswith("archive"):
        name = "cifar-10-binary.tar.gz" if form == "bin" else "cifar-10-python.tar.gz"
        pack(images / ("cifar10" if "set" in where else "") / name, place)
    data = load_toy(home, TOY_CIFAR)
    parts = list(batches().values())
    np.testing.assert_allclose(data.images("train"), np.concatenate([b.images for b in parts[:5]]) / 255, rtol=1e-6)
    np.testing.assert_allclose(data.images("test"), parts[5].images / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.y_train, np.concatenate([b.labels for b in parts[:5]]))
    assert data.X_test.shape == (4, 3072)


def test_cifar_in_grey(home):
    write_cifar(home / "images" / "cifar10", "py")
    data = load_toy(home, TOY_CIFAR, grey=True)
    rgb = batches()["test_batch"].images / 255
    luma = 0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]
    assert (data.X_test.shape, data.channels, data.X_test.dtype) == ((4, 1024), 1, np.float32)
    np.testing.assert_allclose(data.images("test"), luma, atol=1e-6)
    whole = load_toy(home, TOY_CIFAR, grey=True, scale=False).images("test")
    np.testing.assert_array_equal(whole, np.rint(luma * 255))


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_a_malicious_pickle_runs_nothing(tmp_path):
    trap = tmp_path / "trap"
    content = pickle.dumps({b"labels": [0], b"data": _Evil(trap)}, protocol=2)
    pickle.loads(content)
    assert trap.exists()  # the pickle would do it
    trap.unlink()
    with pytest.raises(FileFormatError, match="which no batch of CIFAR-10 needs, and was not loaded"):
        unpickle_batch(content, "here")
    assert not trap.exists()


@pytest.mark.parametrize(
    "name", ["os\nsystem", "builtins\neval", "__builtin__\neval", "numpy\nload", "numpy.core.multiarray\nscalar"]
)
def test_no_other_name_is_looked_up(name):
    content = f"c{name}\n(S'0'\ntR.".encode()
    with pytest.raises(FileFormatError, match="do not trust this file"):
        unpickle_batch(content, "here")


_ARRAY = b"cnumpy\nndarray\n"


_MAKE = b"cnumpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a batch of CIFAR-10, or is damaged"),
        (b"\x80\x02}", "not a batch of CIFAR-10, or is damaged"),
        (pickle.dumps([1, 2], 2), "holds a list"),
        (pickle.dumps({b"labels": [0]}, 2), "no array 'data'"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8)}, 2), "no list 'labels'"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1.5]}, 2), "no list 'labels'"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 2**70]}, 2), "no list 'labels'"),
        (pickle.dumps({b"data": np.zeros((2, 10), np.uint8), b"labels": [0, 1]}, 2), "3072 columns"),
        (pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}, 2), "dtype 'f8'"),
        (pickle.dumps({b"data": np.array([None]), b"labels": [0]}, 2), "dtype 'O8'"),
        (b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.", "encodes text as 'hex'"),
        (b"\x80\x02" + _MAKE + b"}b.", "sets the state of something that has none"),
        (b"\x80\x02" + _ARRAY + b"}b.", "is damaged"),
        (b"\x80\x02" + _MAKE + b"(" + _ARRAY + b"(K\x00tU\x01btR(K\x01(K\x09K\x09tNU\x00U\x00tb.", "unsigned bytes"),
        (pickled_by_python_2(sample(2, (32, 32, 3)))[:-700], "is damaged"),
    ],
)
def test_damaged_pickles(content, match):
    with pytest.raises(FileFormatError, match=match):
        unpickle_batch(content, "here")


def test_a_forged_memo_does_not_fill_the_memory():
    with pytest.raises(FileFormatError, match="numbers a value 2147483647"):
        unpickle_batch(b"\x80\x02}r\xff\xff\xff\x7f.", "here")


def test_an_array_larger_than_its_bytes_is_refused():
    content = pickled_by_python_2(sample(2, (32, 32, 3))).replace(b"J\x02\x00\x00\x00", b"J\xff\xff\xff\x7f")
    with pytest.raises(FileFormatError, match=r"\(2147483647, 3072\) and holds 6144 bytes"):
        unpickle_batch(content, "here")


def test_cifar_batches_missing_damaged_twice_or_too_large(tmp_path, monkeypatch):
    folder = tmp_path / "c"
    write_cifar(folder, "bin")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(FileFormatError, match=r"lacks the batch\(es\) 3"):
        read_cifar10(folder, "train")
    (folder / "test_batch.bin").write_bytes(b"\x01" * 3074)
    with pytest.raises(FileFormatError, match="no multiple of 3073"):
        read_cifar10(folder, "test")
    (folder / "test_batch.bin").write_bytes(b"\x0a" * 3073)
    with pytest.raises(FileFormatError, match="labels from 10 to 10"):
        read_cifar10(folder, "test")
    (folder / "test_batch.bin").write_bytes(b"")
    with pytest.raises(FileFormatError, match="holds no images"):
        read_cifar10(folder, "test")
    (folder / "test_batch.bin").write_bytes(b"\x01" * 3073)
    (folder / "test_batch").write_bytes(pickled(sample(1, (32, 32, 3))))
    with pytest.raises(FileFormatError, match="batch test twice"):
        read_cifar10(folder, "test")
    monkeypatch.setattr("certnet.data.cifar.MAX_BATCH_BYTES", 100)
    with pytest.raises(FileFormatError, match="too large"):
        read_cifar10(folder, "test")


def test_archives_damaged_or_with_links(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py", "py")
    archive = tmp_path / "a.tar.gz"
    pack(archive, tmp_path / "cifar-10-batches-py")
    content = archive.read_bytes()
    for bad in (content[: len(content) // 2], b"", b"text" * 300):
        archive.write_bytes(bad)
        with pytest.raises(FileFormatError, match="cannot be read"):
            read_cifar10(archive, "train")
    link = tarfile.TarInfo("cifar-10-batches-py/test_batch")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(archive, "w:gz") as file:
        file.addfile(link)
    with pytest.raises(FileFormatError, match=r"lacks the batch\(es\) test"):
        read_cifar10(archive, "test")
    with pytest.raises(FileFormatError, match="does not exist"):
        read_cifar10(tmp_path / "none.tar.gz", "test")
