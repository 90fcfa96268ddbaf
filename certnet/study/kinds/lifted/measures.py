"""What is measured of a trained network: Lipschitz bounds and radii, energies, filters, gradients."""

from __future__ import annotations

import base64
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import numpy as np

from certnet.core.validation import Float
from certnet.data import ImageDataset, gaussian_like, mirrored
from certnet.lifted import LiftedNetwork
from certnet.lifted.limits import gradient_gap
from certnet.study.kinds.lifted.images import ImageSettings, drawn_images
from certnet.study.spec import Part
from certnet.study.tasks import Row

__all__ = ["Certificates", "Energies", "Filters", "Gradients", "Measuring", "filters_of", "packed_filters"]

_QUANTILES: Final = 201
_SLOPE_INPUTS: Final = 50  # test images from which steep slopes are searched
_FILTERS: Final = 64


class Measuring(Part, ABC):
    """What is measured of a trained network, with the options of the study."""

    @abstractmethod
    def columns(self, network: LiftedNetwork, data: ImageDataset, seed: int) -> Row:
        """Columns of the row."""


class Certificates(Measuring):
    """Bounds of all methods, the steepest slope found, margins of the predicted class, and radii (H, supplement)."""

    def columns(self, network: LiftedNetwork, data: ImageDataset, seed: int) -> Row:
        slopes_at = data.X_test[:_SLOPE_INPUTS]
        proof = network.lipschitz_bound("sdp", X=slopes_at, random_state=seed % 2**31)
        bounds = {**proof.cheaper, proof.kind: proof.upper}
        theorem = network.lipschitz_bound("theorem", lower=False)
        found = network.certified_radius(data.X_test, proof, threads=1)
        by_theorem = network.certified_radius(data.X_test, theorem, threads=1)
        right = found.predicted == data.y_test
        radii = np.where(right, found.radius, -1.0)
        return {
            "theorem": bounds["theorem"],
            "layerwise": bounds["layerwise"],
            "sdp": bounds.get("sdp"),
            "lower": proof.lower,
            "checked": bool(proof.check(network)),
            "gap": proof.gap,
            "bound_seconds": proof.seconds,
            "margin": _summary(found.margin),
            "radius": float(np.median(found.radius)),
            "radius_theorem": float(np.median(by_theorem.radius)),
            "test_accuracy": float(right.mean()),
            "last_layer": float(np.linalg.norm(network.weights[-1], 2)),
            "radii": _quantiles(radii),
        }


class Energies(Measuring):
    """Energies of test data, of other sets, mirrored, and of a Gaussian like the training data (H, Table 1)."""

    others: list[ImageSettings]

    def columns(self, network: LiftedNetwork, data: ImageDataset, seed: int) -> Row:
        samples = {"own": data.X_test}
        for other in self.others:
            samples[other.name] = drawn_images(other).X_test
        samples["mirrored"] = mirrored(data.images("test")).reshape(len(data.X_test), -1)
        samples["Gaussian"] = gaussian_like(data.X_train, len(data.X_test), seed)
        energies = {name: network.scores(X, threads=1) for name, X in samples.items()}
        return {
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
