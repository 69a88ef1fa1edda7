"""What all functions of the room promise."""

import sys

import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import kerasdl
from kerasdl import plots

MODEL_NAME = "small"


def calls():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, "tanh"), keras.layers.Dense(1)], name=MODEL_NAME
    )
    return {
        "plot_history": ({"loss": [2.0, 1.0]},),
        "plot_gradient_flow": ({"gradient_norm/a": [2.0, 1.0]},),
        "plot_activations": (model, np.ones((4, 3), "float32")),
        "plot_weights": (model,),
        "plot_trajectory": (lambda x: x**2, kerasdl.SGD(0.1), 1.0, 3),
    }


every = pytest.mark.parametrize("name", sorted(calls()))


def test_every_function_is_here():
    assert set(calls()) == set(plots.__all__)


@every
def test_draws_on_the_axes_it_gets_and_nothing_else(name):
    figure = mpl.figure.Figure()
    ax = figure.subplots()
    before = dict(mpl.rcParams)
    assert getattr(plots, name)(*calls()[name], ax=ax) is ax
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before
    assert ax.get_title()
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    figure.canvas.draw()


@every
def test_makes_a_figure_of_its_own_and_closes_none(name):
    mine = plt.figure()
    ax = getattr(plots, name)(*calls()[name])
    assert len(plt.get_fignums()) == 2
    assert ax.figure is not mine
    assert ax.figure.axes == [ax]


@every
def test_axes_that_are_none(name):
    _, several = plt.subplots(1, 2)
    with pytest.raises(ValueError, match=r"`ax` must be None or one Axes object .*ax='ndarray'"):
        getattr(plots, name)(*calls()[name], ax=several)


@every
def test_without_matplotlib(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"Run: pip install 'kerasdl\[plots\]'"):
        getattr(plots, name)(*calls()[name])
