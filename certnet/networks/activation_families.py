r"""The families of activation functions: value, derivative, and what is proved about their slopes. NumPy only.

A function φ here is continuous, and differentiable but for its *kinks*. Between kinks φ' may have *turning points*,
where it goes from rising to falling or back. So on [l, r] every difference quotient of φ, a mean of φ', lies between
the least and the largest of φ'(l), φ'(r) and the values of φ' at the turning points and on both sides of the kinks
inside: that is all that :meth:`certnet.networks.activations.Activation.slopes_between` uses; the whole line is l, r →
±∞.

**Extreme slopes.** Those of silu, gelu, gelu_tanh and mish are the values of φ' at the two zeros of φ'', where

- silu: ``z tanh(z/2) = 2``; the left side is even, and increasing for z > 0;
- gelu: ``z² = 2``;
- gelu_tanh: ``z tanh u = (1 + 6 a z²) / (c (1 + 3 a z²)²)`` with u = c (z + a z³), c = √(2/π), a = 0.044715; both
  sides are even, and for z > 0 the left one increases while the right one, (1 − (s/(1+s))²) / c with s = 3 a z²,
  falls;
- mish: ``−z q = 2`` with q = 1 − σ − 2 σ tanh(softplus z), which falls from 1 to −2 and through 0 at some k ≈ −0.117;
  right of 0, −z q increases; between k and 0 it is negative; left of k, −z q = |z| q falls;

and nowhere else. The limits of φ' at ±∞ are 0 and 1, so these two are the least and the largest slope. They were
computed with 50 digits and are written here rounded outward, in the last of 16 digits (of gelu_tanh by 10⁻¹⁵, more
than it matters whether c and a are the real ones or the doubles); the turning points, within 10⁻¹².
``tests/test_activations.py`` derives them again: φ'' changes its sign between the ends of these intervals, and φ'
moves there by 10⁻²⁴.

**Accuracy.** Where exp, erfc, tanh, cosh and log1p are right to ε = 2⁻⁴⁶ of their value, the computed φ'(z) is right
to ``ε (|φ'(z)| + blur)`` and the computed φ(z) to ``ε (|φ(z)| + |z|)``, what underflows apart. ``blur`` is 0 where φ'
is made of such values by products, quotients and sums of positive terms, and 2 where the terms of a sum may cancel,
or where the argument of exp or erfc has been rounded. For an error δ |y| of the argument y moves e^−|y| by less than
δ; no term of a φ' exceeds 1.2 or is moved by more than 4 δ (|z|³ e^(−z²/2) / √(2π) < ½ is the largest factor); and
where e^−|z| is wrong by ε of itself, the terms are wrong by 1.5 ε together. With δ < 2⁻⁵¹ that leaves 2 ε much to
spare.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from certnet.core.validation import Float

__all__ = ["FAMILIES", "Family", "Turn"]

Turn = tuple[float, float, float, float]
"""Where φ' turns or jumps, as an interval [left, right]; an interval [low, high] of the values that it takes there."""


@dataclass(frozen=True)
class Family:
    """Functions of arrays z and of the parameters, but for the numbers at the end.

    ``derivative`` on a kink is that of the piece to the right. ``curvature`` bounds |φ''| between kinks. ``smooth``: φ'
    varies between kinks, is computed with rounding errors, and turns or jumps where ``turns`` says. ``rounded_kinks``:
    where the kinks are is computed with rounding errors. ``admits`` says what is wrong with parameters, if anything.
    """

    value: Callable[..., Float]
    derivative: Callable[..., Float]
    slopes: Callable[..., tuple[float, float]]
    curvature: Callable[..., float] = lambda *_: 0.0
    kinks: Callable[..., tuple[float, ...]] = lambda *_: ()
    turns: Callable[..., tuple[Turn, ...]] = lambda *_: ()
    admits: Callable[..., str] = lambda *_: ""
    defaults: tuple[float, ...] = ()
    smooth: bool = False
    blur: float = 0.0
    rounded_kinks: bool = False


# ----------------------------------------------------------------------------------------------- parts of the functions


def _sigmoid(z: Float) -> Float:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0.0, 1.0, e) / (1.0 + e)


def _softplus(z: Float, beta: float = 1.0) -> Float:
    """log(1 + e^(β z)) / β; e^−750 underflows."""
    return np.maximum(z, 0.0) + np.log1p(np.exp(-beta * np.minimum(np.abs(z), 750.0 / beta))) / beta


def _erfc(z: Float) -> Float:
    z = np.asarray(z, dtype=np.float64)
    return np.array([math.erfc(x) for x in z.ravel().tolist()], dtype=np.float64).reshape(z.shape)


def _above(x: float) -> float:
    """Above a number that was rounded a few times."""
    return x * (1.0 + 2.0**-50) + 2.0**-1000


def _positive(name: str) -> Callable[..., str]:
    def wrong(x: float) -> str:
        return "" if 1e-100 <= x <= 1e100 else f"{name} must lie in [1e-100, 1e100], got {x!r}"

    return wrong


def _not_negative(x: float, *_: float) -> str:
    return "" if x >= 0.0 else f"alpha must not be negative, got {x!r}"


# ------------------------------------------------------------------------------------------ z times something in [0, 1]


def _silu_slope(z: Float) -> Float:
    z = np.clip(z, -800.0, 800.0)
    return _sigmoid(z) * (1.0 + z * _sigmoid(-z))


_ROOT_HALF: Final = math.sqrt(0.5)


def _gelu_slope(z: Float) -> Float:
    """½ erfc(−z/√2) + z e^(−z²/2) / √(2π)."""
    z = np.clip(z, -50.0, 50.0)
    return 0.5 * _erfc(-_ROOT_HALF * z) + z * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


_CUBIC: Final = 0.044715
_ROOT: Final = math.sqrt(2.0 / math.pi)


def _twice_u(z: Float) -> Float:
    """2 u with u = √(2/π) (z + 0.044715 z³); ½ (1 + tanh u) = σ(2 u), without the cancellation."""
    z = np.clip(z, -30.0, 30.0)
    return 2.0 * _ROOT * (z + _CUBIC * z * z * z)


def _gelu_tanh_slope(z: Float) -> Float:
    """σ(2u) + z · 2u' · σ(2u) σ(−2u)."""
    z = np.clip(z, -30.0, 30.0)
    below, above = _sigmoid(_twice_u(z)), _sigmoid(-_twice_u(z))
    return below + z * (2.0 * _ROOT * (1.0 + 3.0 * _CUBIC * z * z)) * below * above


def _mish(z: Float) -> Float:
    """z tanh(log(1 + e)) = z n / (n + 2) with e = e^z and n = e (e + 2); beyond 40 the second factor is 1."""
    e = np.exp(np.minimum(z, 40.0))
    n = e * (e + 2.0)
    return z * (n / (n + 2.0))


def _mish_slope(z: Float) -> Float:
    """n / (n + 2) + z · 4 e (1 + e) / (n + 2)²."""
    z = np.clip(z, -800.0, 40.0)
    e = np.exp(z)
    n = e * (e + 2.0)
    return n / (n + 2.0) + z * (4.0 * e * (1.0 + e)) / (n + 2.0) ** 2


# --------------------------------------------------------------------------------------------------------------- pieces


def _hard_sigmoid(z: Float, a: float, b: float) -> Float:
    with np.errstate(over="ignore"):  # an infinite a z is cut off
        return np.clip(a * z + b, 0.0, 1.0)


def _hard_sigmoid_slope(z: Float, a: float, b: float) -> Float:
    with np.errstate(over="ignore"):
        y = a * z + b
    return np.where((y >= 0.0) & (y < 1.0), a, 0.0)


def _hard_kinks(alpha: float, beta: float) -> tuple[float, ...]:
    return () if alpha == 0.0 else (-beta / alpha, (1.0 - beta) / alpha)


def _clip(low: float, high: float) -> Family:
    """clip(z, low, high), for those two parameters by default."""
    return Family(
        value=lambda z, low=low, high=high: np.clip(z, low, high),
        derivative=lambda z, low=low, high=high: ((z >= low) & (z < high)).astype(np.float64),
        slopes=lambda *_: (0.0, 1.0),
        kinks=lambda low=low, high=high: (low, high),
    )


def _hard_swish(z: Float) -> Float:
    y = np.clip(z, -3.0, 3.0)
    return np.where(z >= 3.0, z, y * (y + 3.0) / 6.0)


def _hard_swish_slope(z: Float) -> Float:
    return np.where(z >= 3.0, 1.0, np.where(z >= -3.0, np.clip(z, -3.0, 3.0) / 3.0 + 0.5, 0.0))


def _bend(left: float, right: float) -> tuple[Turn, ...]:
    """At zero, the slopes on either side of it."""
    return () if left == right else ((0.0, 0.0, min(left, right), max(left, right)),)


_SELU: Final = (1.0507009873554804934193349852946, 1.6732632423543772848170429916717)  # scale, alpha

# the least and the most slope, each as (z, φ'(z))
_Extremes = tuple[tuple[float, float], tuple[float, float]]
_GELU: Final[_Extremes] = ((-1.4142135623730951, -0.1289041451851549), (1.4142135623730951, 1.128904145185155))
_GELU_TANH: Final[_Extremes] = ((-1.4185040087908283, -0.128993068658773), (1.4185040087908283, 1.128993068658773))
_SILU: Final[_Extremes] = ((-2.3993572805154677, -0.099839320128867), (2.3993572805154677, 1.0998393201288672))
_MISH: Final[_Extremes] = ((-2.2563763963607930, -0.1125261223894626), (1.4905711794854284, 1.0884981612517281))


def _range(extremes: _Extremes) -> tuple[float, float]:
    return extremes[0][1], extremes[1][1]


def _turns(extremes: _Extremes) -> tuple[Turn, ...]:
    return tuple((z - 1e-12, z + 1e-12, slope, slope) for z, slope in extremes)


FAMILIES: Final[dict[str, Family]] = {
    "relu": Family(
        value=lambda z: np.maximum(z, 0.0),
        derivative=lambda z: (z >= 0.0).astype(np.float64),
        slopes=lambda: (0.0, 1.0),
        kinks=lambda: (0.0,),
    ),
    "leaky_relu": Family(
        value=lambda z, a: np.where(z >= 0.0, z, a * z),
        derivative=lambda z, a: np.where(z >= 0.0, 1.0, a),
        slopes=lambda a: (min(a, 1.0), max(a, 1.0)),
        kinks=lambda a: (0.0,),
        defaults=(0.01,),
    ),
    "identity": Family(value=lambda z: z, derivative=lambda z: np.ones_like(z), slopes=lambda: (1.0, 1.0)),
    "tanh": Family(
        value=np.tanh,
        derivative=lambda z: 1.0 / np.cosh(np.clip(z, -350.0, 350.0)) ** 2,
        slopes=lambda: (0.0, 1.0),
        curvature=lambda: 0.77,  # 4 / (3 √3)
        turns=lambda: ((0.0, 0.0, 1.0, 1.0),),
        smooth=True,
    ),
    "sigmoid": Family(
        value=_sigmoid,
        derivative=lambda z: _sigmoid(z) * _sigmoid(-z),
        slopes=lambda: (0.0, 0.25),
        curvature=lambda: 0.1,  # 1 / (6 √3)
        turns=lambda: ((0.0, 0.0, 0.25, 0.25),),
        smooth=True,
    ),
    "softplus": Family(
        value=lambda z: np.logaddexp(z, 0.0),
        derivative=_sigmoid,
        slopes=lambda: (0.0, 1.0),
        curvature=lambda: 0.25,
        smooth=True,
    ),
    "elu": Family(
        value=lambda z, a: np.where(z >= 0.0, z, a * np.expm1(np.minimum(z, 0.0))),
        derivative=lambda z, a: np.where(z >= 0.0, 1.0, a * np.exp(np.minimum(z, 0.0))),
        slopes=lambda a: (0.0, max(a, 1.0)),
        curvature=lambda a: a,
        kinks=lambda a: () if a == 1.0 else (0.0,),
        turns=lambda a: _bend(a, 1.0),
        admits=_not_negative,
        defaults=(1.0,),
        smooth=True,
    ),
    "hard_sigmoid": Family(
        value=_hard_sigmoid,
        derivative=_hard_sigmoid_slope,
        slopes=lambda a, b: (0.0, a),
        kinks=_hard_kinks,
        admits=_not_negative,
        defaults=(0.2, 0.5),
        rounded_kinks=True,
    ),
    "relu6": _clip(0.0, 6.0),
    "hardtanh": replace(
        _clip(-1.0, 1.0),
        admits=lambda low, high: "" if low < high else f"low must be below high, got {low!r} and {high!r}",
        defaults=(-1.0, 1.0),
    ),
    "hard_swish": Family(
        value=_hard_swish,
        derivative=_hard_swish_slope,
        slopes=lambda: (-0.5, 1.5),  # z/3 + ½ on [−3, 3]
        curvature=lambda: 0.334,
        kinks=lambda: (-3.0, 3.0),
        turns=lambda: ((-3.0, -3.0, -0.5, 0.0), (3.0, 3.0, 1.0, 1.5)),
        smooth=True,
        blur=2.0,
    ),
    "gelu": Family(
        value=lambda z: z * (0.5 * _erfc(-_ROOT_HALF * z)),
        derivative=_gelu_slope,
        slopes=lambda: _range(_GELU),
        curvature=lambda: 0.798,  # |2 − z²| e^(−z²/2) / √(2π) is largest at 0
        turns=lambda: _turns(_GELU),
        smooth=True,
        blur=2.0,
    ),
    "gelu_tanh": Family(
        value=lambda z: z * _sigmoid(_twice_u(z)),
        derivative=_gelu_tanh_slope,
        slopes=lambda: _range(_GELU_TANH),
        # sech²u · c (1 + 6 a z²) ≤ c, as sech²u ≤ 1 / (1 + c² z²) and 6 a < c²; what is taken from it is below 0.4
        curvature=lambda: 0.798,
        turns=lambda: _turns(_GELU_TANH),
        smooth=True,
        blur=2.0,
    ),
    "silu": Family(
        value=lambda z: z * _sigmoid(z),
        derivative=_silu_slope,
        slopes=lambda: _range(_SILU),
        curvature=lambda: 0.5,  # σ'(z) (2 − z tanh(z/2)): at 0; beyond the zeros of φ'' at most |z| σ' < 0.23
        turns=lambda: _turns(_SILU),
        smooth=True,
        blur=2.0,
    ),
    "mish": Family(
        value=_mish,
        derivative=_mish_slope,
        slopes=lambda: _range(_MISH),
        # 4 w (w − 1) / (w² + 1)² (2 + z q) with w = 1 + e^z: the first factor is below 0.325, and z q below 0.03; where
        # 2 + z q < 0 the product is above −0.25
        curvature=lambda: 0.66,
        turns=lambda: _turns(_MISH),
        smooth=True,
        blur=2.0,
    ),
    "selu": Family(
        value=lambda z, scale, a: scale * np.where(z >= 0.0, z, a * np.expm1(np.minimum(z, 0.0))),
        derivative=lambda z, scale, a: np.where(z >= 0.0, scale, scale * a * np.exp(np.minimum(z, 0.0))),
        slopes=lambda scale, a: (0.0, _above(scale * a) if a > 1.0 else scale),
        curvature=lambda scale, a: _above(scale * a),
        kinks=lambda scale, a: () if a == 1.0 else (0.0,),
        turns=lambda scale, a: _bend(_above(scale * a) if a > 1.0 else scale * a, scale),
        admits=lambda scale, a: _positive("scale")(scale) or _positive("alpha")(a),
        defaults=_SELU,
        smooth=True,
    ),
    "celu": Family(
        value=lambda z, a: np.where(z >= 0.0, z, a * np.expm1(np.clip(z, -750.0 * a, 0.0) / a)),
        derivative=lambda z, a: np.exp(np.clip(z, -750.0 * a, 0.0) / a),
        slopes=lambda a: (0.0, 1.0),
        curvature=lambda a: _above(1.0 / a),
        admits=_positive("alpha"),
        defaults=(1.0,),
        smooth=True,
        blur=2.0,
    ),
    "softsign": Family(
        value=lambda z: z / (1.0 + np.abs(z)),
        derivative=lambda z: (1.0 / (1.0 + np.abs(z))) ** 2,
        slopes=lambda: (0.0, 1.0),
        curvature=lambda: 2.0,
        turns=lambda: ((0.0, 0.0, 1.0, 1.0),),
        smooth=True,
    ),
    "log_sigmoid": Family(
        value=lambda z: -_softplus(-z),
        derivative=lambda z: _sigmoid(-z),
        slopes=lambda: (0.0, 1.0),
        curvature=lambda: 0.25,
        smooth=True,
    ),
    "softplus_beta": Family(
        value=_softplus,
        derivative=lambda z, beta: _sigmoid(np.clip(z, -750.0 / beta, 750.0 / beta) * beta),
        slopes=lambda beta: (0.0, 1.0),
        curvature=lambda beta: _above(0.25 * beta),
        admits=_positive("beta"),
        defaults=(1.0,),
        smooth=True,
        blur=2.0,
    ),
}
"""By name; "softplus" has no parameter, as files and digests spell it so."""
