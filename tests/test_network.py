"""The network value: what it accepts, what it computes, and what it writes and reads."""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from certnet.core.errors import FileFormatError, InvalidInputError, OutputError
from certnet.core.validation import as_samples, finite_array, positive_number
from certnet.networks import arrays as arrays_module
from certnet.networks.shallow import UNITS, ShallowNetwork


def network(seed: int = 0, d: int = 3, h: int = 5, m: int = 1, **kwargs: Any) -> ShallowNetwork:
    rng = np.random.default_rng(seed)
    return ShallowNetwork(
        rng.standard_normal((h, d)),
        rng.standard_normal(h),
        rng.standard_normal((m, h)),
        rng.standard_normal(m),
        **kwargs,
    )


def tiny(**changes: Any) -> ShallowNetwork:
    return ShallowNetwork(
        **({"W": [[1.0, -2.0], [0.5, 0.25]], "b": [0.0, 1.0], "V": [[3.0, -1.0]], "c": [0.5]} | changes)
    )


# ------------------------------------------------------------------------------------------------------ validation


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"W": [1.0, 2.0]}, r"W has shape \(2,\)"),
        ({"W": np.zeros((2, 2, 2))}, "W has shape"),
        ({"W": 1.0}, r"W has shape \(\)"),
        ({"W": np.zeros((0, 2)), "b": [], "V": np.zeros((1, 0))}, "at least one hidden unit"),
        ({"W": np.zeros((2, 0))}, "at least one hidden unit and one input"),
        ({"W": [[1.0, 2.0], [3.0]]}, "W is not a rectangular array"),
        ({"W": [["a", "b"], ["c", "d"]]}, "W has dtype"),
        ({"W": [[1j, 0.0], [0.0, 0.0]]}, "W has dtype complex"),
        ({"W": [[None, 0.0], [0.0, 0.0]]}, "W has dtype object"),
        ({"W": [[1.0, np.nan], [0.0, 0.0]]}, r"W has 1 entries that are NaN or infinite, the first at \(0, 1\)"),
        ({"W": [[1.0, 2.0], [-np.inf, 0.0]]}, r"the first at \(1, 0\)"),
        ({"b": [0.0]}, r"b has shape \(1,\)"),
        ({"b": [[0.0, 1.0]]}, "b has shape"),
        ({"b": 0.0}, "b has shape"),
        ({"b": [0.0, np.nan]}, "b has 1 entries"),
        ({"V": [1.0]}, r"V has shape \(1, 1\)"),
        ({"V": np.zeros((0, 2))}, r"V has shape \(0, 2\)"),
        ({"V": np.zeros((2, 3))}, r"V has shape \(2, 3\)"),
        ({"V": [np.inf, 0.0]}, "V has 1 entries"),
        ({"c": [0.0, 0.0]}, "one bias per output"),
        ({"c": [[0.0]]}, "c has shape"),
        ({"c": np.nan}, "c has 1 entries"),
        ({"c": None}, "c has dtype object"),
        ({"c": np.datetime64("2020-01-01")}, "c has dtype"),
        ({"units": "furlongs"}, "units must be one of 'as given', 'standardised', 'raw', got 'furlongs'"),
        ({"units": None}, "units must be one of"),
        ({"units": ["raw"]}, "units must be one of"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        tiny(**changes)


def test_numbers_of_other_types_are_welcome() -> None:
    whole = ShallowNetwork([[1, -2], [0, 1]], [0, 1], [True, False], 0)
    assert whole.W.dtype == whole.b.dtype == whole.V.dtype == whole.c.dtype == np.float64
    assert whole.V.shape == (1, 2)
    assert whole.c.shape == (1,)
    frame = pd.DataFrame([[1.0, -2.0], [0.0, 1.0]])
    assert ShallowNetwork(frame, pd.Series([0.0, 1.0]), [1.0, 0.0], 0.0) == whole


def test_float32_is_kept_exactly() -> None:
    W = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    net = ShallowNetwork(W, np.zeros(4, np.float32), np.ones(4, np.float32), np.float32(0.1))
    assert np.array_equal(net.W.astype(np.float32), W)
    assert net.c[0] == float(np.float32(0.1)) != 0.1


@pytest.mark.skipif(np.finfo(np.longdouble).max <= np.finfo(np.float64).max, reason="long double is double here")
def test_a_number_that_no_double_holds_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="infinite"):
        tiny(b=np.array([0.0, np.longdouble("1e400")]))


def test_units_and_sizes() -> None:
    for units in UNITS:
        assert tiny(units=units).units == units
    net = network(d=3, h=5, m=2)
    assert (net.n_inputs, net.n_hidden, net.n_outputs) == (3, 5, 2)
    assert repr(net) == "ShallowNetwork(3-5-2, units='as given')"


# ---------------------------------------------------------------------------------------------------- digest, value


def test_the_digest_is_what_it_was() -> None:
    # a literal: a certificate names its network by this, so it may never drift
    assert tiny().digest == "440bf7331fc397c050317d00a75d6f250737774cd30f4f1dbb1470e10dc28129"
    assert tiny(units="raw").digest == "af5d6bd8fec75e21ce7702366c006a323e988f084808b07a969a405b165f813f"


def test_the_digest_sees_every_bit() -> None:
    base = network(m=2)
    assert network(m=2).digest == base.digest
    seen = {base.digest, network(m=2, units="raw").digest}
    for name in ("W", "b", "V", "c"):
        array = getattr(base, name).copy()
        array.flat[-1] = np.nextafter(array.flat[-1], np.inf)
        seen.add(ShallowNetwork(**({k: getattr(base, k) for k in "WbVc"} | {name: array})).digest)
    assert len(seen) == 6
    # the same numbers in other shapes
    assert ShallowNetwork([[1.0, 1.0]], [1.0], [1.0], 1.0) != ShallowNetwork([[1.0]], [1.0], [[1.0], [1.0]], [1.0, 1.0])


def test_memory_layout_and_negative_zero_do_not_matter() -> None:
    base = network()
    assert ShallowNetwork(np.asfortranarray(base.W), base.b, base.V, base.c) == base
    assert ShallowNetwork(base.W[::-1][::-1], base.b, base.V.astype(">f8"), base.c) == base
    zero, minus = tiny(b=[0.0, 0.0], c=0.0), tiny(b=[-0.0, 0.0], c=-0.0)
    assert zero == minus
    assert zero.digest == minus.digest
    assert not np.signbit(minus.b).any()


def test_equality_and_hash() -> None:
    assert network() == network()
    assert network() != network(1)
    assert network() != "network"
    assert len({network(), network(), network(1)}) == 2


def test_a_network_is_frozen() -> None:
    W = np.ones((2, 2))
    net = tiny(W=W)
    W[0, 0] = 5.0
    assert net.W[0, 0] == 1.0
    for name in ("W", "b", "V", "c"):
        array = getattr(net, name)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(net, name, array)
    with pytest.raises(dataclasses.FrozenInstanceError):
        net.units = "raw"
    with pytest.raises(dataclasses.FrozenInstanceError):
        del net.W


@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_equal_and_frozen(through: Any) -> None:
    net = network(m=2, units="raw")
    other = through(net)
    assert other == net
    assert other.units == "raw"
    with pytest.raises(ValueError, match="read-only"):
        other.W[0, 0] = 0.0


# ------------------------------------------------------------------------------------------------------ evaluation


def by_loop(net: ShallowNetwork, x: np.ndarray) -> list[float]:
    out = [float(c) for c in net.c]
    for j in range(net.n_hidden):
        z = float(net.b[j]) + sum(float(net.W[j, i]) * float(x[i]) for i in range(net.n_inputs))
        for o in range(net.n_outputs):
            out[o] += float(net.V[o, j]) * max(z, 0.0)
    return out


@pytest.mark.parametrize("m", [1, 3])
def test_forward_is_the_formula(m: int) -> None:
    net = network(m=m)
    X = np.random.default_rng(1).standard_normal((7, 3))
    expected = np.array([by_loop(net, x) for x in X])
    np.testing.assert_allclose(net.forward(X), expected, rtol=1e-13, atol=1e-13)
    assert net.forward(X).shape == (7, m)
    assert net.predict(X).shape == ((7,) if m == 1 else (7, m))
    assert net.forward(X[:0]).shape == (0, m)


def test_patterns_include_the_boundary() -> None:
    net = ShallowNetwork([[1.0], [1.0], [0.0]], [0.0, -1.0, 0.0], [1.0, 1.0, 1.0], 0.0)
    assert net.patterns([[0.0]]).tolist() == [[True, False, True]]
    assert net.patterns([[1.0]]).tolist() == [[True, True, True]]
    np.testing.assert_array_equal(net.preactivations([[3.0]]), [[3.0, 2.0, 0.0]])


@pytest.mark.parametrize("m", [1, 3])
def test_gradients_are_finite_differences(m: int) -> None:
    net = network(m=m)
    X = np.random.default_rng(2).standard_normal((6, 3))
    step = 1e-6
    assert np.abs(net.preactivations(X)).min() > 1e-3  # no kink near
    for i in range(3):
        e = step * np.eye(3)[i]
        numeric = (net.forward(X + e) - net.forward(X - e)) / (2 * step)
        np.testing.assert_allclose(net.gradients(X)[:, :, i], numeric, atol=1e-8)
    assert net.gradients(X).shape == (6, m, 3)


def test_product_weights_describe_the_same_function() -> None:
    net = network(h=6)
    net = ShallowNetwork(net.W, net.b, np.where(np.arange(6) == 2, 0.0, net.V), net.c)
    U, s = net.product_weights()
    X = np.random.default_rng(3).standard_normal((9, 3))
    homogeneous = np.column_stack([X, np.ones(9)])
    np.testing.assert_allclose(np.maximum(homogeneous @ U.T, 0.0) @ s + net.c[0], net.predict(X), rtol=1e-12)
    assert U.shape == (6, 4)
    assert s[2] == 1.0
    assert not U[2].any()
    with pytest.raises(InvalidInputError, match="defined for one output, the network has 2"):
        network(m=2).product_weights()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([1.0, 2.0, 3.0], r"reshape\(1, -1\)"),
        ([[1.0, 2.0]], "X has 2 columns, the network has 3 inputs"),
        ([[1.0, 2.0, np.nan]], "X has 1 entries"),
        ([["1", "2", "3"]], "X has dtype"),
        (np.zeros((1, 1, 3)), "X has shape"),
        (None, "X has dtype object"),
    ],
)
def test_bad_inputs_are_refused(X: Any, message: str) -> None:
    net = network()
    for method in (net.forward, net.predict, net.preactivations, net.patterns, net.gradients):
        with pytest.raises(InvalidInputError, match=message):
            method(X)


# -------------------------------------------------------------------------------------------------------- rescaled


def test_rescaled_folds_the_units() -> None:
    net = network(m=2)
    x_shift, x_scale = np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.5, 4.0])
    y_shift, y_scale = np.array([3.0, -1.0]), np.array([10.0, 0.1])
    raw = net.rescaled(x_shift=x_shift, x_scale=x_scale, y_shift=y_shift, y_scale=y_scale)
    X = np.random.default_rng(4).standard_normal((8, 3))
    np.testing.assert_allclose(raw.forward(X), y_scale * net.forward((X - x_shift) / x_scale) + y_shift, rtol=1e-12)
    assert raw.units == "raw"
    back = raw.rescaled(
        x_shift=-x_shift / x_scale,
        x_scale=1 / x_scale,
        y_shift=-y_shift / y_scale,
        y_scale=1 / y_scale,
        units="as given",
    )
    np.testing.assert_allclose(back.forward(X), net.forward(X), rtol=1e-10)
    plain = net.rescaled(x_shift=0.0, x_scale=1.0, y_shift=0.0, y_scale=1.0, units="as given")
    assert plain == net


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_scale": [1.0, 0.0, 1.0]}, "a scale is zero"),
        ({"y_scale": 0.0}, "a scale is zero"),
        ({"x_scale": 1e-320}, "W has .* NaN or infinite"),
        ({"y_scale": 1.7e308}, "infinite"),
        ({"x_shift": [np.nan, 0.0, 0.0]}, "x scaling has 1 entries"),
        ({"x_shift": [1.0, 2.0]}, r"x scaling has shape \(2,\)"),
        ({"y_shift": [1.0, 2.0]}, r"y scaling has shape \(2,\)"),
        ({"x_scale": [[1.0, 1.0, 1.0]]}, "x scaling has shape"),
        ({"units": "other"}, "units"),
    ],
)
def test_rescaled_refuses_what_cannot_be_folded(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        network(7).rescaled(**({"x_shift": 0.0, "x_scale": 1.0, "y_shift": 0.0, "y_scale": 1.0} | changes))


# ----------------------------------------------------------------------------------------------------------- files


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    W=arrays(np.float64, (2, 3), elements=finite),
    V=arrays(np.float64, (2, 2), elements=finite),
    units=st.sampled_from(UNITS),
)
def test_files_give_back_every_bit(tmp_path: Path, W: np.ndarray, V: np.ndarray, units: str) -> None:
    net = ShallowNetwork(W, W[:, 0], V, V[0], units=units)
    back = ShallowNetwork.load(net.save(tmp_path / "net.npz", force=True))
    assert back == net
    assert back.units == units
    for name in ("W", "b", "V", "c"):
        assert getattr(back, name).tobytes() == getattr(net, name).tobytes()


def test_saving_does_not_overwrite_unless_told(tmp_path: Path) -> None:
    path = network().save(tmp_path / "net.npz")
    with pytest.raises(OutputError, match="exists"):
        network(1).save(path)
    assert ShallowNetwork.load(path) == network()
    network(1).save(path, force=True)
    assert ShallowNetwork.load(path) == network(1)
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]


def stored(**arrays_: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays_)
    return buffer.getvalue()


def parts(**changes: Any) -> dict[str, Any]:
    net = network()
    every = {"W": net.W, "b": net.b, "V": net.V, "c": net.c, "units": np.array("raw")} | changes
    return {name: value for name, value in every.items() if value is not None}


def one_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def huge_header() -> bytes:
    """An array that claims a petabyte and holds nothing."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (125000000000000, 1), }"
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name in ("W", "b", "V", "c"):
            archive.writestr(f"{name}.npy", member)
    return whole.getvalue()


def encrypted() -> bytes:
    whole = bytearray(stored(**parts()))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = whole.find(signature)
        while at >= 0:
            whole[at + offset] |= 1  # the flag of an encrypted member
            at = whole.find(signature, at + 4)
    return bytes(whole)


def corrupt_deflate() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **parts())
    whole = bytearray(buffer.getvalue())
    at = whole.find(b"W.npy") + 40
    whole[at : at + 30] = b"\xff" * 30
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable .npz"),
        (b"hello", "not a readable .npz"),
        (pickle.dumps({"W": 1}), "not a readable .npz"),
        (stored(**parts())[:-40], "not a readable .npz"),
        (stored(**parts())[:100], "not a readable .npz"),
        (one_array(), "one array, not a certnet network"),
        (stored(**parts(V=None, c=None)), "lacks V, c"),
        (stored(a=np.zeros(3)), "lacks W, b, V, c"),
        (stored(**parts(W=np.array([[None]]))), "not a readable .npz"),
        (stored(**parts(b=np.zeros(3))), "b has shape"),
        (stored(**parts(W=np.full((5, 3), np.nan))), "W has 15 entries"),
        (stored(**parts(W=np.array("text"))), "W has dtype"),
        (stored(**parts(units=np.array("furlongs"))), "units"),
        (stored(**parts(format=np.array("certnet-shallow-network-2"))), "certnet-shallow-network-2"),
        (corrupt_deflate(), "not a readable .npz"),
        (encrypted(), "not a readable .npz"),
        (huge_header(), "the file is damaged"),
    ],
    ids=[
        "empty",
        "text",
        "pickle",
        "truncated",
        "stump",
        "npy",
        "V and c missing",
        "another npz",
        "objects",
        "shapes",
        "nan",
        "strings",
        "units",
        "newer format",
        "corrupt deflate",
        "encrypted",
        "huge header",
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.npz"
    path.write_bytes(content)
    with pytest.raises((FileFormatError, InvalidInputError), match=message) as caught:
        ShallowNetwork.load(path)
    assert "net.npz" in str(caught.value)


def test_a_pickle_inside_is_never_run(tmp_path: Path) -> None:
    made = tmp_path / "made"

    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.mkdir, (made,)

    path = tmp_path / "net.npz"
    path.write_bytes(stored(**parts(W=np.array([Malicious()], dtype=object))))
    with pytest.raises(FileFormatError, match="not a readable"):
        ShallowNetwork.load(path)
    assert not made.exists()


def test_files_damaged_at_random_are_refused_or_read_right(tmp_path: Path) -> None:
    net, rng = network(), np.random.default_rng(0)
    whole = net.save(tmp_path / "good.npz").read_bytes()
    path = tmp_path / "bad.npz"
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for at in rng.integers(len(whole), size=rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile and NumPy may remark on a damaged header
            try:
                read = ShallowNetwork.load(path)
            except (FileFormatError, InvalidInputError):
                refused += 1
            else:
                assert (read.W.tobytes(), read.V.tobytes()) == (net.W.tobytes(), net.V.tobytes())
    assert refused > 200


def test_missing_files_folders_and_huge_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileFormatError, match=r"absent\.npz does not exist"):
        ShallowNetwork.load(tmp_path / "absent.npz")
    with pytest.raises(FileFormatError):
        ShallowNetwork.load(tmp_path)
    path = network().save(tmp_path / "net.npz")
    monkeypatch.setattr(arrays_module, "_MAX_FILE_BYTES", 100)
    with pytest.raises(FileFormatError, match="larger than"):
        ShallowNetwork.load(path)


def test_files_of_other_writers_without_units_are_as_given(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    path.write_bytes(stored(**parts(units=None)))
    assert ShallowNetwork.load(path) == network()


# ------------------------------------------------------------------------------------------------------ validation


def test_samples() -> None:
    X, y = as_samples(pd.DataFrame({"a": [1, 2], "b": [3.0, 4.0]}), [1.0, 2.0], 2, 1)
    assert (X.shape, y.shape) == ((2, 2), (2, 1))
    for bad_X, bad_y, message in [
        ([[1.0, 2.0]], [1.0, 2.0], "X has 1 samples and y has 2"),
        ([[1.0, 2.0]], [[1.0, 2.0]], "y has 2 columns"),
        (np.zeros((0, 2)), [], "no samples"),
        ([[1.0, 2.0]], ["a"], "y has dtype"),
        ([[1.0, 2.0]], [np.inf], "y has 1 entries"),
        ([[1.0, 2.0]], 3.0, "y has shape"),
        (pd.DataFrame({"a": ["x"], "b": [1.0]}), [1.0], "column 'a' is text"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            as_samples(bad_X, bad_y, 2, 1)


def test_arrays_are_copies() -> None:
    mine = np.ones(3)
    theirs = finite_array(mine, "mine", ndim=(1,))
    theirs[0] = 2.0
    assert mine[0] == 1.0


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, "a", None, [1.0, 2.0], pytest.param(10**400, id="huge")])
def test_what_is_no_positive_number(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="weight must be a"):
        positive_number(value, "weight")


def test_positive_numbers() -> None:
    assert positive_number(3, "weight") == 3.0
    assert positive_number(np.float32(0.5), "weight") == 0.5
    assert positive_number(0.0, "weight", zero=True) == 0.0
    with pytest.raises(InvalidInputError, match="non-negative"):
        positive_number(-1.0, "weight", zero=True)
