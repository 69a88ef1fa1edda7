"""Latency: measured where it is cheap, taken from the comparison where it is not."""

import doctest
import time

import keras
import pytest
from keras import layers

from kerasdl import export
from kerasdl.export.files import runtime
from kerasdl.export.verifying import latency, parity
from kerasdl.export.verifying.latency import measure


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when a run moves it."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def running(*seconds):
        rest = list(seconds)

        def run():
            now[0] += rest.pop(0)

        return run

    return running


def test_the_median_of_short_runs(clock):
    found = measure(3, 0.1, clock(0.01, 0.03, 0.02, 0.001))
    assert (found.batch, found.milliseconds, found.runs) == (3, pytest.approx(20), 3)
    assert found.cores >= 1


def test_no_more_than_twenty_runs(clock):
    assert measure(1, 0.0, clock(*[1.0] * 3, *[1e-6] * 20)).milliseconds == pytest.approx(1e-3)
    assert measure(1, 0.0, clock(*[1e-6] * 23)).runs == 20


def test_no_more_runs_are_left_out_than_the_budget_has_time_for(clock):
    assert measure(1, 0.05, clock(1.0, 0.05, 0.02)).milliseconds == pytest.approx(35)
    assert measure(1, 0.02, clock(1.0, 1.0, 1.0, 0.07)).milliseconds == pytest.approx(70)


@pytest.mark.parametrize(("first", "more"), [(0.3, []), (0.2, [0.2]), (0.07, [0.07])])
def test_a_long_run_is_repeated_once_or_not_at_all(first, more, clock):
    found = measure(1, first, clock(*more))
    assert found.runs == 1
    assert found.milliseconds == pytest.approx(1000 * first)


def test_one_figure_per_batch_size_of_the_default_session(tmp_path, monkeypatch):
    opened, ran = [], []
    real = runtime.open_session
    monkeypatch.setattr(
        runtime,
        "open_session",
        lambda file, optimized: opened.append(optimized) or real(file, optimized),
    )
    monkeypatch.setattr(
        parity,
        "measure",
        lambda batch, first, run: (
            ran.append((batch, opened[-1], first, run())) or measure(batch, first, run)
        ),
    )
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(2)])
    rows = keras.random.normal((5, 4), seed=0)
    report = export.to_onnx(
        model, tmp_path / "model.onnx", data={"x": keras.ops.convert_to_numpy(rows)}
    )
    assert [each.batch for each in report.latency] == [1, 3, 5, 32]
    assert [(batch, optimized) for batch, optimized, _, _ in ran] == [
        (b, True) for b in (1, 3, 5, 32)
    ]
    assert all(first > 0 and result[0].shape == (batch, 2) for batch, _, first, result in ran)
    assert all(0 < each.milliseconds < 1000 for each in report.latency)


def test_examples():
    assert doctest.testmod(latency).failed == 0
