"""Small image files of every format, written as their originals are."""

import gzip
import pickle
import struct
import tarfile
from dataclasses import replace

import numpy as np

from certnet.data import (
    image_info,
)
from certnet.data.image_arrays import LabelledImages
from certnet.data.images import load_image_set

TOY = replace(image_info("mnist"), n_train=40, n_test=20, height=3, width=4, digests={})


TOY_CIFAR = replace(image_info("cifar10"), n_train=20, n_test=4)


def sample(n, shape=(3, 4), seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, size=(n, *shape), dtype=np.uint8)
    return LabelledImages(images, np.arange(n) % 10)


def load_toy(home, info=TOY, **options):
    return load_image_set(info, home, **({"part": "all", "flatten": True, "scale": True, "grey": False} | options))


def idx_bytes(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx_files(folder, train, test, *, packed, sign="-"):
    folder.mkdir(parents=True)
    for prefix, data in (("train", train), ("t10k", test)):
        for kind, array in (("images", data.images), ("labels", data.labels)):
            content = idx_bytes(array)
            name = f"{prefix}-{kind}{sign}idx{array.ndim}-ubyte"
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)


def write_npz_file(path, **parts):
    arrays = {}
    for part, data in parts.items():
        end = "" if part == "all" else f"_{part}"
        arrays |= {f"x{end}": data.images, f"y{end}": data.labels}
    np.savez_compressed(path, **arrays)


def planes(data):
    return np.ascontiguousarray(data.images.transpose(0, 3, 1, 2)).reshape(len(data.images), 3072)


def pickled(data):
    """As Python 3 writes what Python 2 wrote: protocol 2, keys of bytes."""
    batch = {b"batch_label": b"training batch 1 of 5", b"labels": data.labels.tolist(), b"data": planes(data)}
    return pickle.dumps(batch | {b"filenames": [b"a.png"] * len(data.images)}, protocol=2)


def text(text):
    return b"U" + bytes([len(text)]) + text  # SHORT_BINSTRING


def pickled_by_python_2(data):
    """Written opcode by opcode, with the byte strings that only Python 2 could write."""
    rows = planes(data)
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR(K\x03" + text(b"|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    state = b"(K\x01(" + b"".join(b"J" + struct.pack("<i", n) for n in rows.shape) + b"t" + dtype + b"\x89"
    state += b"T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in data.labels) + b"e"
    items = text(b"data") + array + state + text(b"labels") + labels + text(b"batch_label") + text(b"one")
    return b"\x80\x02}(" + items + b"u."


def binary(data):
    return np.column_stack([data.labels.astype(np.uint8), planes(data)]).tobytes()


def batches():
    """Five training batches of four images and a test batch."""
    parts = [sample(4, shape=(32, 32, 3), seed=k) for k in range(6)]
    return dict(
        zip(["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"], parts)
    )


FORMS = {"py": (pickled, ""), "py2": (pickled_by_python_2, ""), "bin": (binary, ".bin")}


def write_cifar(folder, form):
    write, end = FORMS[form]
    folder.mkdir(parents=True)
    for name, data in batches().items():
        (folder / (name + end)).write_bytes(write(data))
    (folder / "batches.meta").write_bytes(b"not read")


def pack(archive, folder):
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, arcname=folder.name)
