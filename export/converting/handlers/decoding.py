"""Decoding: the labels that are read off the outputs of a network, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import Formula, converts


@converts("CTCGreedyDecoder")
def _greedy(f: Formula, scores: str, lengths: str) -> Any:
    """The best label of each step, but for blanks, and for what repeats the step before.

    The scores are those of steps, samples and labels. The results are a sparse matrix with a row
    for each sample, its places, values and shape; and the sum of the best scores, times −1.
    """
    dtype = f.dtype_of(scores)
    scores = f.Transpose(scores, perm=[1, 0, 2])
    shape = f.Shape(scores)
    samples, steps, labels = (f.slice(shape, axis, axis + 1, 0) for axis in range(3))
    best = f.ArgMax(scores, axis=2, keepdims=0)
    scalar = np.zeros(0, np.int64)
    numbers = f.Range(np.int64(0), f.Reshape(steps, scalar), np.int64(1))
    within = f.Less(f.unsqueeze(numbers, 0), f.unsqueeze(f.cast(lengths, np.int64), 1))
    blank = int(f.attribute("blank_index"))
    kept = f.And(within, f.Not(f.Equal(best, f.Add(labels, [blank]) if blank < 0 else [blank])))
    if f.attribute("merge_repeated"):
        none = f.Expand(np.int64(-1), f.Concat(samples, [1], axis=0))
        before = f.slice(f.Concat(none, best, axis=1), 0, -1, 1)
        kept = f.And(kept, f.Not(f.Equal(best, before)))
    counted = f.cast(kept, np.int64)
    found = f.Transpose(f.NonZero(kept), perm=[1, 0])
    places = f.Sub(f.CumSum(counted, np.int64(1)), [1])
    columns = f.unsqueeze(f.GatherND(places, found), 1)
    longest = f.ReduceMax(f.Concat(f.sum(counted, 1), [0], axis=0), keepdims=1)
    top = f.Squeeze(f.GatherElements(scores, f.unsqueeze(best, 2), axis=2), [2])
    total = f.sum(f.Where(within, top, np.zeros((), dtype)), 1, keepdims=1)
    return [
        f.Concat(f.slice(found, 0, 1, 1), columns, axis=1),
        f.GatherND(best, found),
        f.Concat(samples, longest, axis=0),
        f.Neg(total),
    ]
