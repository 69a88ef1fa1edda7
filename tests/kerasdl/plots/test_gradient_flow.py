"""Norms of gradients over the epochs."""

import keras
import numpy as np
import pytest

import kerasdl
from kerasdl.plots import plot_gradient_flow


@pytest.mark.parametrize("kind", ["optimizer", "gradient"])
def test_what_the_callbacks_log(kind, rng):
    x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 1))
    names = ["first", "second", "third"]
    layers = [keras.layers.Dense(4, "tanh", name=name) for name in names[:-1]]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1, name=names[-1])])
    model.compile(kerasdl.SGD(0.01), loss="mse")
    monitor = kerasdl.OptimizerMonitor() if kind == "optimizer" else kerasdl.GradientMonitor((x, y))
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[monitor])
    ax = plot_gradient_flow(history)
    assert [line.get_label() for line in ax.lines] == names
    for line in ax.lines:
        assert line.get_xdata().tolist() == [1, 2, 3]
        logged = history.history[f"gradient_norm/{line.get_label()}"]
        np.testing.assert_array_equal(line.get_ydata(), logged)
    assert ax.get_yscale() == "log"
    assert len({line.get_color() for line in map(tuple_coloured, ax.lines)}) == 3


def tuple_coloured(line):
    line.set_color(tuple(line.get_color()))
    return line


def test_zeros_and_what_is_not_finite_leave_gaps():
    ax = plot_gradient_flow({"gradient_norm/a": [0.0, 1e-30, np.nan, np.inf, 1e30]})
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [np.nan, 1e-30, np.nan, np.nan, 1e30])


def test_nothing_but_zeros():
    ax = plot_gradient_flow({"gradient_norm/a": [0.0, 0.0], "gradient_norm/b": [np.nan, 0.0]})
    assert ax.get_yscale() == "linear"
    assert len(ax.lines) == 2


def test_the_legend_of_a_deep_network_stays_short():
    ax = plot_gradient_flow({f"gradient_norm/layer_{i}": [1.0, 2.0] for i in range(50)})
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(ax.lines) == 50
    assert len(texts) == 12
    assert (texts[0], texts[-1]) == ("layer_0", "layer_49")


def test_a_history_without_norms_says_what_it_has():
    with pytest.raises(ValueError, match=r"history='loss, update_ratio/a'.*OptimizerMonitor"):
        plot_gradient_flow({"loss": [1.0], "update_ratio/a": [0.1]})
    with pytest.raises(ValueError, match="history='nothing'"):
        plot_gradient_flow({})
