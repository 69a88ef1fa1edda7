"""Times of two calls side by side: samples in pairs, ratios as medians over the pairs."""

import contextlib
import gc
import math
import statistics
import time

SHORTEST_SAMPLE = 0.02


def seconds(call, repeats=1):
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def repeats_for(call):
    """How many calls in a row fill a sample."""
    repeats, elapsed = 1, seconds(call)
    while elapsed * repeats < SHORTEST_SAMPLE:
        repeats = max(repeats + 1, math.ceil(1.1 * SHORTEST_SAMPLE / elapsed))
        elapsed = seconds(call, repeats)
    return repeats


def sampler(call):
    """A function that returns the seconds of one call, averaged over a sample."""
    repeats = repeats_for(call)
    return lambda: seconds(call, repeats)


@contextlib.contextmanager
def without_gc():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def paired(theirs, ours, rounds):
    """Median seconds of both samples, and the median ratio ours / theirs of the pairs.

    The two take turns in going first, so that a drift of the machine favours neither.
    """
    pairs = []
    with without_gc():
        for turn in range(rounds):
            if turn % 2:
                second, first = ours(), theirs()
            else:
                first, second = theirs(), ours()
            pairs.append((first, second))
    ratio = statistics.median(b / a for a, b in pairs)
    return *map(statistics.median, zip(*pairs, strict=True)), ratio


def epoch_seconds(model, x, y, batch_size, callbacks=(), epochs=1):
    """Seconds of the last epoch of `fit`, without what it does before and after all epochs."""
    import keras  # here, so that torch's process need not load it

    clock = []
    read = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: clock.append(time.perf_counter()),
        on_epoch_end=lambda epoch, logs: clock.append(time.perf_counter()),
    )
    fit = {"batch_size": batch_size, "epochs": epochs, "verbose": 0}
    model.fit(x, y, callbacks=[*callbacks, read], **fit)
    begin, end = clock[-2:]
    return end - begin


def verdict(fulfilled):
    return "[green]ok[/]" if fulfilled else "[red]not[/]"
