"""Pictures of lifted networks: what is drawn is what was given."""

from __future__ import annotations

import numpy as np
import pytest

from certnet.core.errors import InvalidInputError
from certnet.plot import (
    EnergyDisplay,
    FilterDisplay,
    GradientGapDisplay,
    LearningDisplay,
    RadiusDisplay,
    figure_png,
)

pytest.importorskip("matplotlib", reason="pictures need the plot extra")


def drawn(display):
    return figure_png(display.figure_, dpi=40).startswith(b"\x89PNG\r\n\x1a\n")


def test_filters_lie_in_a_grid_with_zero_at_grey():
    filters = np.arange(-10.0, 10.0).reshape(5, 4)
    filters[3] = 0.0
    display = FilterDisplay.from_filters(filters, (2, 2), columns=3, title="five")
    page = display.grid()
    assert page.shape == (7, 10)
    np.testing.assert_allclose(page[1:3, 1:3], 0.5 + 0.5 * filters[0].reshape(2, 2) / 10.0)
    np.testing.assert_array_equal(page[4:6, 1:3], 0.5)  # the filter of zeros
    np.testing.assert_array_equal(page[4:6, 7:9], 1.0)  # no sixth filter
    np.testing.assert_array_equal(display.ax_.images[0].get_array(), page)
    assert drawn(display)


def test_colour_filters():
    display = FilterDisplay.from_filters(np.ones((2, 12)), (2, 2, 3))
    assert display.grid().shape[2] == 3
    assert drawn(display)


@pytest.mark.parametrize("shape", [(3, 2), (4,), (2, 1, 2), (0, 4)])
def test_filters_of_another_shape_are_refused(shape):
    with pytest.raises(InvalidInputError, match=r"shape|filters"):
        FilterDisplay.from_filters(np.ones((2, 4)), shape)


def test_energies_are_fractions():
    rng = np.random.default_rng(0)
    display = EnergyDisplay.from_energies({"test": rng.gamma(3.0, size=500), "noise": 9.0 + rng.gamma(3.0, size=300)})
    outline = display.ax_.patches[0]
    assert 0.99 < outline.get_data().values.sum() <= 1.0
    assert "mean" in display.ax_.get_legend().get_texts()[0].get_text()
    assert drawn(display)
    assert drawn(EnergyDisplay.from_energies({"equal": np.ones(4)}))


def test_learning_curves_share_colours():
    loss, accuracy = np.array([3.0, 2.0, 1.0]), np.array([0.5, 0.7, 0.8])
    display = LearningDisplay.from_curves({"run": loss}, {"run": accuracy, "test": accuracy - 0.1})
    line = display.ax_.lines[0]
    np.testing.assert_array_equal(line.get_xydata(), [[1, 3.0], [2, 2.0], [3, 1.0]])
    right = display.score_ax_
    assert right.lines[0].get_color() == line.get_color() != right.lines[1].get_color()
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["run", "test"]
    assert drawn(display)
    assert drawn(LearningDisplay.from_curves({"run": loss}))


def test_certified_accuracy_falls_with_the_radius():
    display = RadiusDisplay.from_radii({"net": [0.5, 0.1, 0.3, 0.2]}, {"net": [True, True, True, False]})
    x, y = display.ax_.lines[0].get_data()
    np.testing.assert_allclose(x, [0.0, 0.1, 0.3, 0.5])
    np.testing.assert_allclose(y, [0.75, 0.5, 0.25, 0.0])
    assert drawn(display)
    assert drawn(RadiusDisplay.from_radii({"net": [0.0]}, {"net": [False]}))
    with pytest.raises(InvalidInputError, match="one truth value per radius"):
        RadiusDisplay.from_radii({"net": [0.0]}, {"net": [False, True]})


def test_gradient_errors_against_the_feedback():
    gammas = np.array([0.5, 0.25, 0.125])
    display = GradientGapDisplay.from_errors(gammas, {"W_0": 2.0 * gammas, "W_1": gammas**2})
    guide = display.ax_.lines[-1]
    np.testing.assert_allclose(guide.get_ydata(), 2.0 * gammas)
    assert drawn(display)
    with pytest.raises(InvalidInputError, match=r"errors\['W_0'\] has shape"):
        GradientGapDisplay.from_errors(gammas, {"W_0": gammas[:2]})


@pytest.mark.parametrize("display", [EnergyDisplay, LearningDisplay, RadiusDisplay])
def test_nothing_to_draw_is_refused(display):
    with pytest.raises(InvalidInputError, match="1 to 7 entries"):
        display({})
    with pytest.raises(InvalidInputError, match="is empty"):
        display({"a": np.array([])})
