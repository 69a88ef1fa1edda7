"""Histograms of errors: every number is counted, and the tolerance is an edge."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasdl.export.verifying import histogram as module
from kerasdl.export.verifying.channels import channel_errors, element_errors
from kerasdl.export.verifying.histogram import EDGES, WITHIN, histogram

BINS = len(EDGES) + 1
ANY = st.one_of(
    st.floats(0, 1e6), st.just(float("inf")), st.sampled_from(EDGES), st.floats(0, 1e-300)
)


def reference(errors, allowed):
    """One number after the other."""
    counts = [0] * BINS
    for index in np.ndindex(errors.shape):
        error, limit = errors[index], np.broadcast_to(allowed, errors.shape)[index]
        ratio = 0.0 if error == 0 else np.inf if limit == 0 else error / limit
        counts[sum(ratio > edge for edge in EDGES)] += 1
    return tuple(counts)


@given(st.lists(ANY, min_size=1, max_size=30), st.sampled_from([0.0, 1e-9, 1.0, 3.7]))
def test_against_a_loop(errors, allowed):
    errors = np.array(errors)
    assert histogram(errors, np.array([allowed])) == reference(errors, np.array([allowed]))


def test_an_output_of_one_number_without_axes():
    assert histogram(np.array(0.5), np.ones(1)) == histogram(np.array([0.5]), np.ones(1))
    assert sum(histogram(np.array(3.0), np.ones(1))[WITHIN:]) == 1


def test_each_channel_has_its_own_unit():
    errors = np.array([[1.0, 1.0], [0.0, 3.0]])
    counts = histogram(errors, np.array([10.0, 1.0]))
    assert counts == reference(errors, np.array([10.0, 1.0]))
    assert sum(counts[:WITHIN]) == 3


def test_edges_are_half_decades_with_the_tolerance_among_them():
    np.testing.assert_allclose(np.diff(np.log10(EDGES)), 0.5)
    assert EDGES[WITHIN - 1] == 1.0
    assert histogram(np.ones(1), np.ones(1))[WITHIN - 1] == 1
    assert histogram(np.ones(1) * (1 + 1e-15), np.ones(1))[WITHIN] == 1


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_errors_of_single_numbers(odd):
    native = np.float32([odd, 1, 2, odd])
    result = np.float32([odd, 1.5, odd, 3])
    errors = element_errors(result, native, native.astype("float64"))
    np.testing.assert_array_equal(errors, [0, 0.5, np.inf, np.inf])
    assert channel_errors(result, native, native.astype("float64")).max() == np.inf


def test_errors_of_what_is_no_float():
    words = np.array([["a", "b"], ["c", "d"]], object)
    errors = element_errors(np.array([["a", "x"], ["c", "d"]], object), words, words)
    np.testing.assert_array_equal(errors, [[0, 1], [0, 0]])
    assert histogram(errors, np.zeros(1)) == (3, *[0] * (BINS - 2), 1)
    whole = np.arange(3)
    assert np.all(element_errors(whole[:2], whole, whole) == np.inf)
    assert np.all(element_errors(whole.astype("int32"), whole, whole) == np.inf)


def test_examples():
    assert doctest.testmod(module).failed == 0
