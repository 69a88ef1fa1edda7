"""Ways of optimizers, against the formulas."""

import keras
import numpy as np
import pytest
from keras import ops
from matplotlib.contour import ContourSet

import kerasdl
from kerasdl.plots import plot_trajectory

pytestmark = pytest.mark.usefixtures("has_float64")


def ways(ax):
    found = {}
    for line in ax.lines:
        if not line.get_label().startswith("_"):
            found[line.get_label()] = np.stack(line.get_data(), axis=1)
    return found


def valley(x, y):
    return x**2 / 20 + ops.exp(y) - y


def descend(gradient, start, η, β, steps):
    points, v = [np.array(start)], 0.0
    for _ in range(steps):
        v = β * v - η * gradient(points[-1])
        points.append(points[-1] + v)
    return np.array(points)


def test_on_a_curve():
    ax = plot_trajectory(
        lambda x: x**4 - x, {"plain": kerasdl.SGD(0.05), "heavy": kerasdl.SGD(0.05, 0.9)}, 1.5, 20
    )
    for label, β in (("plain", 0.0), ("heavy", 0.9)):
        expected = descend(lambda x: 4 * x**3 - 1, 1.5, 0.05, β, 20)
        x, y = ways(ax)[label].T
        np.testing.assert_allclose(x, expected, rtol=1e-13)
        np.testing.assert_allclose(y, expected**4 - expected, rtol=1e-12)
    curve = ax.lines[0]
    np.testing.assert_allclose(curve.get_ydata(), curve.get_xdata() ** 4 - curve.get_xdata())
    assert ax.get_title() == "20 steps"


def test_on_a_surface():
    ax = plot_trajectory(valley, [kerasdl.SGD(0.5), kerasdl.Adam(0.1)], (-4.0, 1.0), steps=15)
    assert set(ways(ax)) == {"SGD", "Adam"}
    slope = lambda p: np.array([p[0] / 10, np.exp(p[1]) - 1])  # noqa: E731
    expected = descend(slope, (-4.0, 1.0), 0.5, 0.0, 15)
    np.testing.assert_allclose(ways(ax)["SGD"], expected, rtol=1e-12, atol=1e-12)
    points = np.concatenate(list(ways(ax).values()))
    low, high = points.min(axis=0), points.max(axis=0)
    np.testing.assert_allclose(
        ax.get_xlim(), [1.1 * low[0] - 0.1 * high[0], 1.1 * high[0] - 0.1 * low[0]]
    )
    np.testing.assert_allclose(
        ax.get_ylim(), [1.1 * low[1] - 0.1 * high[1], 1.1 * high[1] - 0.1 * low[1]]
    )
    (contours,) = [each for each in ax.collections if isinstance(each, ContourSet)]
    assert len(contours.levels) == 16


def test_contours_lie_where_the_function_has_their_value():
    ax = plot_trajectory(valley, kerasdl.SGD(0.5), (-4.0, 1.0), 5, bounds=((-5, 3), (-2, 2)))
    assert (ax.get_xlim(), ax.get_ylim()) == ((-5, 3), (-2, 2))
    (contours,) = [each for each in ax.collections if isinstance(each, ContourSet)]
    for level, path in list(zip(contours.levels, contours.get_paths(), strict=True))[3:-1]:
        x, y = path.vertices.T
        np.testing.assert_allclose(x**2 / 20 + np.exp(y) - y, level, rtol=0.01)


def test_optimizers_are_left_alone():
    optimizer = kerasdl.Adam(kerasdl.ExponentialDecay(0.1, 5, 0.5))
    first, second = (
        ways(plot_trajectory(lambda x: x**2, optimizer, 1.0, 8))["Adam"] for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert not optimizer.built
    assert int(optimizer.iterations) == 0


@pytest.mark.parametrize("start", [(1.0, 2.0), [1, 2], np.array([1.0, 2.0])])
def test_pairs(start):
    ax = plot_trajectory(lambda x, y: x * x + y * y, keras.optimizers.SGD(0.25), start, 2)
    np.testing.assert_allclose(ways(ax)["SGD"], [[1, 2], [0.5, 1], [0.25, 0.5]])


def test_a_way_ends_where_the_function_does():
    ax = plot_trajectory(ops.log, kerasdl.SGD(1.0), 0.5, 10, bounds=(-1, 1))
    assert len(ways(ax)["SGD"]) <= 11
    assert np.isfinite(ways(ax)["SGD"][:, 0]).all()
    diverging = plot_trajectory(lambda x: x**4, keras.optimizers.SGD(1.0), 3.0, 30, bounds=(-5, 5))
    x = ways(diverging)["SGD"][:, 0]
    assert 3 < len(x) < 31
    assert np.isfinite(x).all()
    thrown = plot_trajectory(lambda x: x**9, kerasdl.SGD(1e30), 1e36, 3, bounds=(-1, 1))
    assert ways(thrown)["SGD"][:, 0].tolist() == [1e36]


def test_at_rest_and_on_a_plain():
    ax = plot_trajectory(lambda x: x**2, kerasdl.SGD(0.1), 0.0, 1)
    assert ax.get_xlim() == (-1.0, 1.0)
    assert ax.get_title() == "1 step"
    plain = plot_trajectory(lambda x, y: 3.0, kerasdl.SGD(0.1), (0.0, 0.0), 2)
    assert not plain.collections


def test_errors():
    def square(x):
        return x**2

    sgd = kerasdl.SGD(0.1)
    with pytest.raises(ValueError, match="`optimizers` must be a Keras optimizer"):
        plot_trajectory(square, "sgd", 1.0)
    with pytest.raises(ValueError, match="a list of different classes"):
        plot_trajectory(square, [kerasdl.SGD(0.1), kerasdl.SGD(0.2)], 1.0)
    with pytest.raises(ValueError, match="`optimizers` must be"):
        plot_trajectory(square, [], 1.0)
    for start in (np.nan, (1.0, 2.0, 3.0), "1", (1.0, [2.0]), None):
        with pytest.raises(ValueError, match="`start` must be a finite number, or a pair"):
            plot_trajectory(square, sgd, start)
    for steps in (0, 2.5, True):
        with pytest.raises(ValueError, match="`steps` must be an integer ≥ 1"):
            plot_trajectory(square, sgd, 1.0, steps)
    for bounds in (1.0, (2.0, 1.0), (0.0, np.inf), ((0, 1), (0, 1)), "ab"):
        with pytest.raises(ValueError, match=r"`bounds` must be \(low, high\)\."):
            plot_trajectory(square, sgd, 1.0, bounds=bounds)
    with pytest.raises(ValueError, match=r"`bounds` must be \(\(low, high\), \(low, high\)\)\."):
        plot_trajectory(valley, sgd, (1.0, 1.0), bounds=(0, 1))
    with pytest.raises(ValueError, match=r"`function` must be a function that works element by"):
        plot_trajectory(lambda x: ops.stack([x, x]), sgd, 1.0)
