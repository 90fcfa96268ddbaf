"""Altered certificate files, resealed too: an error of certnet's or a verdict, soon, and what is accepted is true."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge import SUBJECTS, assert_true, subject
from steps import Calls

from certnet.certification import Certificate
from certnet.claims import sealed
from certnet.claims.certificate import square_above
from certnet.claims.sealed import seal
from certnet.core.digits import above
from certnet.core.errors import CertnetError, FileFormatError
from certnet.networks.feedforward import FeedForward

Rng = np.random.Generator

TOKENS = [
    "0",
    "-1",
    "1e999999",
    "-0.0",
    "1e-400",
    "0.1e1",
    "NaN",
    "Infinity",
    "null",
    "true",
    '""',
    '"\\ud800"',
    "[]",
    "{}",
]
TOKENS += [
    "1" * 400,
    "9" * 100_000,
    "[" * 5_000,
    "[" * 100_000,
    '{"a":' * 50_000,
    "[[[0]]]",
    "[1e308]",
    "\x00",
    "\u2028",
]


def resealed(data: dict[str, Any]) -> str:
    """The file as one would write it who knows how: every field that follows from others fits them."""
    data = dict(data)
    try:
        bound = float(data["upper"])
        data["rho"] = square_above(bound)
        data["upper_decimal"] = above(bound, 12)
        data["upper_rational"] = str(Fraction(bound))
        data["seal"] = sealed.seal(data)
    except (TypeError, ValueError, KeyError, OverflowError, ArithmeticError, RecursionError):
        pass  # what has no bound or no seal is written as it is
    return json.dumps(data)


def judge(path: Path, content: bytes, net: FeedForward) -> bool:
    """An error of certnet's, or a verdict, in calls that grow as the file does; and what is accepted is true."""
    path.write_bytes(content)
    calls = Calls()
    try:
        with calls:
            cert = Certificate.load(path)
    except CertnetError:
        return False
    finally:
        assert calls.made <= 1_000 + 4 * len(content)
    with calls:
        accepted = bool(cert.check(net))
    assert calls.made <= 10_000 + 4 * len(content)
    if accepted:
        assert_true(net, cert)
        assert repr(cert)
    return accepted


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be replaced in parsed JSON."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def put(data: Any, path: Sequence[Any], value: Any) -> Any:
    if not path:
        return value
    copy = data.copy()
    copy[path[0]] = put(copy[path[0]], path[1:], value)
    return copy


def a_value(rng: Rng, old: Any) -> Any:
    if isinstance(old, float) and rng.random() < 0.6:
        return old * (1.0 + float(rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-17.0, 1.0)))
    odd: list[Any] = [None, True, 0, 1, -1, 2.5, 5e-324, -5e-324, 1.7e308, 10**400, 2**63, "", "0", "\ud800", [], [[]]]
    odd += [
        {},
        {"a": 1},
        [1.0, 2.0],
        [[1.0, 2.0]],
        [0, 1],
        ["bound", [1.0]],
        "tree",
        "linf",
        "neuron",
        "shallow",
        "product",
    ]
    return odd[int(rng.integers(len(odd)))]


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_file_with_other_values_and_a_seal_that_fits(tmp_path: Path, name: str) -> None:
    net, cert = subject(name)
    data = json.loads(cert.to_json())
    assert judge(tmp_path / "c.json", resealed(data).encode(), net)
    rng = np.random.default_rng(200 + SUBJECTS.index(name))
    spots = [path for path in places(data) if path]
    accepted = 0
    for _ in range(100):
        bad = data
        for _ in range(int(rng.integers(1, 3))):
            spot = spots[int(rng.integers(len(spots)))]
            old = bad
            try:
                for key in spot:
                    old = old[key]
                bad = put(bad, spot, a_value(rng, old))
            except (TypeError, IndexError, KeyError, AttributeError):
                continue  # the first change left no such place
        accepted += judge(tmp_path / "c.json", resealed(bad).encode(), net)
    assert accepted > 5


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_file_whose_text_was_changed(tmp_path: Path, name: str) -> None:
    net, cert = subject(name)
    text = cert.to_json().encode()
    same = json.loads(text)
    rng = np.random.default_rng(300 + SUBJECTS.index(name))
    for _ in range(100):
        i, j = sorted(int(k) for k in rng.integers(len(text), size=2))
        token = TOKENS[int(rng.integers(len(TOKENS)))].encode("utf-8", "surrogatepass")
        i2 = min(i + int(rng.integers(4)), len(text))
        content = [
            text[:i] + bytes(rng.integers(256, size=1, dtype=np.uint8)) + text[i + 1 :],
            text[:i] + token + text[i2:],
            text[:i] + text[j:],
            text[:j] + text[i:],
            text[:i],
            text.replace(text[i:i2] or b"0", token[:1000], 1),
        ][int(rng.integers(6))]
        if judge(tmp_path / "c.json", content, net):
            assert json.loads(content) == same  # white space, or another spelling of a number


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("field", ["upper", "lower", "multipliers", "witness", "shape", "cheaper", "versions", "extra"])
def test_absurd_values_take_no_time(tmp_path: Path, field: str, token: str) -> None:
    net, cert = subject("one output")
    data = json.loads(cert.to_json()) | {field: "HERE"}
    text = resealed(data).replace('"HERE"', token)
    assert not judge(tmp_path / "c.json", text.encode("utf-8", "surrogatepass"), net)


@pytest.mark.parametrize(
    "recode",
    [
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-32"),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode() + b"\x00",
        lambda text: text.encode() * 2,
        lambda text: text.encode()[::-1],
        lambda text: b"\xff" + text.encode(),
        lambda text: text.replace('"upper":', '"lower":').encode(),
        lambda text: (text.rstrip()[:-1] + ', "upper": 1e-9}').encode(),  # the second of two keys counts
        lambda text: ('{"upper": 1e-9, "seal": "0", ' + text[1:].replace('"upper":', '"Upper":')).encode(),
        lambda text: text.replace("[", "[" + "0.5, " * 1_000_000, 1).encode(),
    ],
)
def test_other_encodings_and_doubled_keys(tmp_path: Path, recode: Callable[[str], bytes]) -> None:
    net, cert = subject("one output")
    assert not judge(tmp_path / "c.json", recode(cert.to_json()), net)


def test_a_file_without_an_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "MAX_FILE_BYTES", 1 << 20)
    if not os.path.exists("/dev/zero"):
        pytest.skip("no endless file here")
    with pytest.raises(FileFormatError, match="larger than"):
        Certificate.load("/dev/zero")


@pytest.mark.parametrize("schema", [["[" * 50] * 50, "x" * 10_000, 1e300, None, {"a": "b" * 10_000}])
def test_an_absurd_schema_is_not_repeated(tmp_path: Path, schema: Any) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"schema": schema}))
    with pytest.raises(FileFormatError) as caught:
        Certificate.load(path)
    assert len(str(caught.value)) < len(str(path)) + 200


@pytest.mark.parametrize("name", ["one output", "tree", "sup norm", "neuron"])
def test_a_lower_bound_in_single_precision_is_not_a_proved_one(name: str) -> None:
    net, cert = subject(name)
    for ulps in range(3):
        lower = np.nextafter(np.float32(cert.lower), np.float32(ulps * 9.0), dtype=np.float32)
        assert float(lower) <= cert.lower or not dataclasses.replace(cert, lower=lower).check(net)


def test_doubled_and_unknown_names_are_refused(tmp_path: Path) -> None:
    _, cert = subject("one output")
    path = tmp_path / "c.json"
    path.write_text('{"upper": 0.001, ' + cert.to_json().lstrip()[1:])
    with pytest.raises(FileFormatError, match="the name 'upper' occurs twice"):
        Certificate.load(path)
    data = json.loads(cert.to_json()) | {"metres": 1.0}
    path.write_text(json.dumps(data | {"seal": seal(data)}))
    with pytest.raises(FileFormatError, match="'metres' is no field of a certificate"):
        Certificate.load(path)
