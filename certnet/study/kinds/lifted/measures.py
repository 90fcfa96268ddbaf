"""What is measured of a trained network: bounds and radii, energies, filters, gradients, and shorter inference."""

from __future__ import annotations

import base64
import time
import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field

from certnet.certification import certify, certify_outputs
from certnet.claims.certificate import Certificate
from certnet.core.errors import CertnetWarning
from certnet.core.validation import Float
from certnet.data import ImageDataset, gaussian_like, mirrored
from certnet.lifted import LiftedNetwork
from certnet.lifted.bounds import lipschitz_bounds
from certnet.lifted.inference import Inference
from certnet.lifted.limits import gradient_gap
from certnet.networks.feedforward import FeedForward
from certnet.robust.radii import certified_radius
from certnet.study.kinds.lifted.images import ImageSettings, drawn_images
from certnet.study.spec import Part
from certnet.study.tasks import Row

__all__ = [
    "Certificates",
    "Energies",
    "Filters",
    "Forward",
    "Gradients",
    "Measuring",
    "Passes",
    "filters_of",
    "packed_filters",
]

_QUANTILES: Final = 201
_SLOPE_INPUTS: Final = 50  # test images from which steep slopes are searched
_FILTERS: Final = 64
_SIDES: Final[tuple[Literal["left", "right"], ...]] = ("left", "right")


class Measuring(Part, ABC):
    """What is measured of a trained network, with the options of the study."""

    @abstractmethod
    def columns(self, network: LiftedNetwork, data: ImageDataset, seed: int) -> Row:
        """Columns of the row."""


class Certificates(Measuring):
    """Bounds of all methods, the steepest slope found, margins of the predicted class, and radii (H, supplement).

    Radii are by H's bound, by the SDP bound of all outputs, and by the bounds of every pair of outputs, which are never
    the smaller ones; ``at`` are the radii at which the share that is right and certified is told.
    """

    at: list[float] = Field(default=[0.1, 0.3, 0.5, 1.0, 1.58])

    def columns(self, network: LiftedNetwork, data: ImageDataset, seed: int) -> Row:
        proof = network.lipschitz_bound("sdp", X=data.X_test[:_SLOPE_INPUTS], random_state=seed % 2**31)
        bounds = {**proof.cheaper, proof.kind: proof.upper}
        theorem = network.lipschitz_bound("theorem", lower=False)
        begin = time.process_time()
        pairs = lipschitz_bounds(network, "sdp", differences=True, lower=False)
        seconds = time.process_time() - begin
        found, by_theorem, by_pairs = (
            network.certified_radius(data.X_test, claim, pairs=claim is pairs, threads=1)
            for claim in (proof, theorem, pairs)
        )
        row: Row = {
            "theorem": bounds["theorem"],
            "layerwise": bounds["layerwise"],
            "sdp": bounds.get("sdp"),
            "radius_theorem": float(np.median(by_theorem.radius)),
        }
        return row | self._certified(network, proof, pairs, seconds, found, by_pairs, data)

    def of_feed_forward(self, network: FeedForward, data: ImageDataset, seed: int) -> Row:
        """The same of an ordinary network, where H's bound is the product of its layers' norms."""
        proof = certify(network, X=data.X_test[:_SLOPE_INPUTS], random_state=seed % 2**31)
        begin = time.process_time()
        pairs = certify_outputs(network, differences=True)
        seconds = time.process_time() - begin
        found, by_pairs = (certified_radius(network, data.X_test, claim) for claim in (proof, pairs))
        product = float(np.prod([np.linalg.norm(W, 2) for W in network.weights]))
        row: Row = {
            "theorem": product,
            "layerwise": product,
            "sdp": proof.upper,
            "radius_theorem": float(np.median(found.margin.clip(0.0))) / (np.sqrt(2.0) * product),
        }
        return row | self._certified(network, proof, pairs, seconds, found, by_pairs, data)

    def _certified(
        self,
        network: LiftedNetwork | FeedForward,
        proof: Certificate,
        pairs: Mapping[Any, Certificate],
        seconds: float,
        found: Any,
        by_pairs: Any,
        data: ImageDataset,
    ) -> Row:
        """The bound of all outputs, radii by it and by those of every pair, the shares that are right and certified."""
        right = found.predicted == data.y_test
        return {
            "lower": proof.lower,
            "checked": bool(proof.check(network)),
            "gap": proof.gap,
            "bound_seconds": proof.seconds,
            "margin": _summary(found.margin),
            "last_layer": float(np.linalg.norm(network.weights[-1], 2)),
            "radius": float(np.median(found.radius)),
            "radius_pairs": float(np.median(by_pairs.radius)),
            "pairs_least": min(one.upper for one in pairs.values()),
            "pairs_most": max(one.upper for one in pairs.values()),
            "pairs_seconds": seconds,
            "test_accuracy": float(right.mean()),
            "radii": _quantiles(np.where(right, by_pairs.radius, -1.0)),
            "at": self.at,
            "certified": [float((right & (by_pairs.radius >= radius)).mean()) for radius in self.at],
            "certified_of_all": [float((right & (found.radius >= radius)).mean()) for radius in self.at],
        }


class Energies(Measuring):
    """Energies of test data, of other sets, mirrored, and of a Gaussian like the training data (H, Table 1).

    ``areas`` are those under the ROC curve of the energy as a score that tells the others from own test data.
    """

    others: list[ImageSettings]

    def columns(self, network: LiftedNetwork, data: ImageDataset, seed: int) -> Row:
        samples = {"own": data.X_test}
        for other in self.others:
            samples[other.name] = drawn_images(other).X_test
        samples["mirrored"] = mirrored(data.images("test")).reshape(len(data.X_test), -1)
        samples["Gaussian"] = gaussian_like(data.X_train, len(data.X_test), seed)
        energies = {name: network.scores(X, threads=1) for name, X in samples.items()}
        own = energies["own"]
        areas = {name: _area(own, values) for name, values in energies.items() if name != "own"}
        return {
            "areas": areas,
            "energies": {name: _summary(values) for name, values in energies.items()},
            "quantiles": {name: _quantiles(values) for name, values in energies.items()},
        }


class Filters(Measuring):
    """The first layer's weights, and how sparse and how positive they are."""

    def columns(self, network: LiftedNetwork, data: ImageDataset, seed: int) -> Row:
        W = network.weights[0]
        return {
            "shape": list(data.image_shape),
            "filters": packed_filters(W[:_FILTERS]),
            "hoyer_sparsity": float(_hoyer(W).mean()),
            "positive": float((np.maximum(W, 0.0) ** 2).sum() / (W**2).sum()),
        }


class Forward(Measuring):
    """One pass in place of a minimisation (Z, section 5: "almost identical" at γ = 1/8), with and without β."""

    def columns(self, network: LiftedNetwork, data: ImageDataset, seed: int) -> Row:
        X, y = data.X_test, data.y_test
        found, seconds = _timed(network.infer, X, threads=1)
        row: Row = {"test_accuracy": _accuracy(found.output, y), "length": _median_norm(found.output), "ways": {}}
        ways = {"plain": False} | ({"reconstructing": True} if any(network.beta) else {})
        for name, reconstruct in ways.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CertnetWarning)  # that β is left out is what is measured
                passed, taken = _timed(network.forward, X, reconstruct=reconstruct)
            row["ways"][name] = {
                "test_accuracy": _accuracy(passed.output, y),
                "same": _accuracy(passed.output, found.output.argmax(axis=1)),
                "distance": _median_norm(passed.output - found.output),
                "time": taken / seconds,
            }
        return row


class Passes(Measuring):
    """Inference that ends early (Z, section 6): after some passes, or at a natural residual of some ``γ^{L−1}``.

    A prediction is certain where the margin of the output exceeds ``√2`` times the error bound, which rests on the
    residual: minimisation could not change it any more.
    """

    passes: list[int] = Field(default=[1, 2, 3, 5, 10, 20])
    tolerances: list[float] = Field(default=[1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-6])

    def columns(self, network: LiftedNetwork, data: ImageDataset, seed: int) -> Row:
        X, y = data.X_test, data.y_test
        scale = network.gamma ** (network.depth - 1)
        done, whole = _timed(network.infer, X, threads=1, tol=1e-9)
        best = done.output.argmax(axis=1)
        stops: list[Row] = []
        ends: list[tuple[str, float, dict[str, Any]]] = [
            *(("passes", count, {"passes": count}) for count in self.passes),
            *(("residual", tol, {"tol": tol * scale}) for tol in self.tolerances),
        ]
        for name, value, options in ends:
            found, taken = _timed(network.infer, X, threads=1, **options)
            top = np.partition(found.output, -2, axis=1)
            certain = top[:, -1] - top[:, -2] > np.sqrt(2.0) * found.error_bound
            stops.append(
                {
                    "by": name,
                    "value": value,
                    "test_accuracy": _accuracy(found.output, y),
                    "same": _accuracy(found.output, best),
                    "certain": float(certain.mean()),
                    "error": float(np.median(np.linalg.norm(found.output - done.output, axis=1))),
                    "residual": float(np.median(found.residual)) / scale,
                    "time": taken / whole,
                }
            )
        return {"test_accuracy": _accuracy(done.output, y), "stops": stops}


class Gradients(Measuring):
    """Contrastive gradients against their limit as the feedback falls."""

    gammas: list[float]
    samples: int

    def columns(self, network: LiftedNetwork, data: ImageDataset, seed: int) -> Row:
        rows = np.random.default_rng(seed).permutation(len(data.X_train))[: self.samples]
        targets = np.eye(data.n_classes)[data.y_train[rows]]
        gap = gradient_gap(network, data.X_train[rows], targets, self.gammas)
        return {
            "gammas": gap.gammas.tolist(),
            "errors": gap.errors.T.tolist(),
            "total": gap.total.tolist(),
            "shared": gap.shared.tolist(),
            "orders": gap.orders.tolist(),
            "samples": len(rows),
        }


def _timed(run: Callable[..., Inference], X: Float, **options: Any) -> tuple[Inference, float]:
    """An inference of X, and its CPU seconds, the least of three."""
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        found = run(X, **options)
        seconds.append(time.process_time() - begin)
    return found, max(min(seconds), 1e-9)


def _accuracy(outputs: Float, labels: Any) -> float:
    return float((outputs.argmax(axis=1) == labels).mean())


def _median_norm(rows: Float) -> float:
    return float(np.median(np.linalg.norm(rows, axis=1)))


def _area(own: Float, other: Float) -> float:
    """The chance that one of ``other`` is above one of ``own``, ties counted half: the area under the ROC curve."""
    ordered = np.sort(own)
    below, up_to = (np.searchsorted(ordered, other, side=side) for side in _SIDES)
    return float((below + up_to).mean()) / (2.0 * len(own))


def _hoyer(W: Float) -> Float:
    """``(√d − ‖w‖₁/‖w‖₂) / (√d − 1)`` of every row: 0 where all entries are equal, 1 where one is not zero."""
    root = np.sqrt(W.shape[1])
    norms = np.linalg.norm(W, axis=1)
    return np.asarray((root - np.abs(W).sum(axis=1) / np.where(norms > 0.0, norms, 1.0)) / (root - 1.0))


def _summary(values: Float) -> Row:
    return {"mean": float(values.mean()), "median": float(np.median(values)), "std": float(values.std())}


def _quantiles(values: Float) -> list[float]:
    """What pictures need of a distribution: its quantiles at the middles of 201 equal parts."""
    middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return np.quantile(values, middles, method="inverted_cdf").tolist()


def packed_filters(W: Float) -> str:
    """Rows of W as text, each scaled to whole numbers from −127 to 127: enough for a picture."""
    largest = np.abs(W).max(axis=1, keepdims=True)
    scaled = np.rint(127.0 * W / np.where(largest > 0.0, largest, 1.0)).astype(np.int8)
    return base64.b64encode(zlib.compress(scaled.tobytes(), 9)).decode("ascii")


def filters_of(text: str, shape: Sequence[int]) -> Float:
    """What :func:`packed_filters` wrote, (n, d), in [−1, 1]."""
    flat = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.int8)
    return flat.reshape(-1, int(np.prod(shape))).astype(np.float64) / 127.0
