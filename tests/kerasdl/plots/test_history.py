"""Loss curves."""

import keras
import numpy as np
import pytest

from kerasdl.plots import plot_history


def curves(ax):
    """(epochs, values) of the labelled curves; the mark of the best epoch is left out."""
    lines = {line.get_label(): line for line in ax.lines}
    return {
        label: (line.get_xdata().tolist(), line.get_ydata().tolist())
        for label, line in lines.items()
        if not label.startswith("best")
    }


def best(ax):
    (mark,) = [line for line in ax.lines if line.get_label().startswith("best")]
    assert len(set(mark.get_xdata())) == 1
    return mark.get_xdata()[0], mark.get_label()


def fitted(epochs=3, **kwargs):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", loss="mse", metrics=["mae"])
    data = np.linspace(0, 1, 8)[:, None]
    return model.fit(data, data, epochs=epochs, verbose=0, **kwargs)


def test_curves_of_a_training():
    history = fitted(validation_split=0.5)
    ax = plot_history(history)
    logs = history.history
    assert curves(ax) == {
        "training": ([1, 2, 3], logs["loss"]),
        "validation": ([1, 2, 3], logs["val_loss"]),
    }
    assert best(ax)[0] == 1 + np.argmin(logs["val_loss"])
    assert curves(plot_history(logs)) == curves(ax)


def test_a_dict_and_several_metrics():
    logs = {"loss": [3.0, 2.0], "accuracy": [0.2, 0.8], "val_accuracy": [0.4, 0.3]}
    ax = plot_history(logs, ["accuracy", "loss"])
    assert curves(ax) == {
        "accuracy, training": ([1, 2], [0.2, 0.8]),
        "accuracy, validation": ([1, 2], [0.4, 0.3]),
        "loss, training": ([1, 2], [3.0, 2.0]),
    }
    assert best(ax) == (1, "best epoch 1 (0.4)")
    assert ax.get_ylabel() == "accuracy, loss"
    training, validation = ax.lines[:2]
    assert training.get_color() == validation.get_color() != ax.lines[2].get_color()


@pytest.mark.parametrize(
    ("name", "mode", "epoch"),
    [
        ("loss", "auto", 1),
        ("binary_accuracy", "auto", 2),
        ("auc_1", "auto", 2),
        ("f1_score", "auto", 2),
        ("mean_absolute_error", "auto", 1),
        ("reward", "max", 2),
        ("binary_accuracy", "min", 1),
    ],
)
def test_what_is_best(name, mode, epoch):
    assert best(plot_history({name: [1.0, 5.0, 3.0]}, name, mode))[0] == epoch


def test_nan_and_infinity_leave_gaps_and_are_not_the_best():
    ax = plot_history({"loss": [np.inf, np.nan, 0.5, -np.inf, 0.7]})
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [np.nan, np.nan, 0.5, np.nan, 0.7])
    assert best(ax) == (3, "best epoch 3 (0.5)")
    nothing = plot_history({"loss": [np.nan, np.nan]})
    assert [line.get_label() for line in nothing.lines] == ["training"]


def test_epochs_that_stand_alone_are_seen():
    (line, _) = plot_history({"loss": [0.5]}).lines
    assert line.get_marker() == "o"
    training, validation, _ = plot_history(
        {"loss": [3.0, 2.0, 1.0], "val_loss": [np.nan, 2.0, np.nan]}
    ).lines
    assert training.get_marker() == "None"
    assert validation.get_marker() == "o"


@pytest.mark.parametrize(("initial_epoch", "last"), [(0, 7), (4, 12)])
def test_validation_in_every_kth_epoch(initial_epoch, last):
    history = fitted(last, initial_epoch=initial_epoch, validation_split=0.5, validation_freq=3)
    found = curves(plot_history(history))
    epochs = list(range(initial_epoch + 1, last + 1))
    assert found["training"][0] == epochs
    assert found["validation"] == (
        [epoch for epoch in epochs if epoch % 3 == 0],
        history.history["val_loss"],
    )


@pytest.mark.parametrize("count", [0, 1, 4])
def test_validation_in_unknown_epochs(count):
    logs = {"loss": [1.0] * 6, "val_loss": [1.0] * count}
    with pytest.raises(ValueError, match=rf"{count} values of 'val_loss' in 6 epochs"):
        plot_history(logs)


def test_errors():
    with pytest.raises(ValueError, match=r"values of the history \(loss, mae\)\..*'val_loss'"):
        plot_history({"loss": [1.0], "mae": [1.0], "val_loss": [1.0]}, "val_loss")
    with pytest.raises(ValueError, match=r"values of the history \(none\)"):
        plot_history({})
    with pytest.raises(ValueError, match="`metrics` must be among"):
        plot_history({"loss": [1.0]}, [])
    with pytest.raises(ValueError, match=r'`mode` must be "auto", "min" or "max"\.'):
        plot_history({"loss": [1.0]}, mode="least")
    with pytest.raises(ValueError, match=r"`history` must be a History object .*history='list'"):
        plot_history([1.0])
    with pytest.raises(ValueError, match=r"'f1' with the shape \(1, 2\)"):
        plot_history({"f1": [[0.1, 0.2]]}, "f1")
