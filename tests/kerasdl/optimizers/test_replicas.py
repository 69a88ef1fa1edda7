"""Training on several devices ends with the weights of training on one.

The batches are the same; each replica has its share of every batch. What differs is the order
in which float64 numbers are summed, so the weights may differ by far less than 1e-6.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import replica_worker as worker

pytestmark = pytest.mark.slow  # processes of their own, with many replicas

RTOL = 1e-10
# Half precision rounds each share of a batch by itself, to 11 bits; the weights are around 1 and
# a step of the clipped gradient is at most 0.025.
RTOL_FLOAT16 = 12 * 0.025 * 2.0**-11


def start(what, path, backend="tensorflow", **environment):
    with path.with_suffix(".err").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, worker.__file__, what, str(path)],
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "CUDA_VISIBLE_DEVICES": "",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                **environment,
            },
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def results_of(processes, paths, timeout):
    """What the processes wrote; none of them lives on."""
    try:
        for process, path in zip(processes, paths, strict=True):
            process.wait(timeout)
            assert process.returncode == 0, path.with_suffix(".err").read_text()[-4000:]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [json.loads(path.read_text()) for path in paths]


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    path = tmp_path_factory.mktemp("mirrored") / "results.json"
    return results_of([start("mirrored", path)], [path], 300)[0]


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    paths = [folder / f"{i}.json" for i in range(2)]
    processes = []
    for i, path in enumerate(paths):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
        processes.append(start("multi_worker", path, TF_CONFIG=json.dumps(task)))
    return results_of(processes, paths, 150)


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed; keras.distribution needs it")
    path = tmp_path_factory.mktemp("jax") / "results.json"
    flags = "--xla_force_host_platform_device_count=4"
    process = start("jax", path, "jax", XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    return results_of([process], [path], 150)[0]


def assert_same(result, expected, rtol=RTOL):
    for each in (expected, result):
        assert "error" not in each, each["error"][-4000:]
    for name in {"weights", "shown"} & set(expected):
        assert np.abs(result[name]).max() > 0.1
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(result[name], expected[name], rtol=0, atol=rtol * scale)
    assert result.get("iterations") == expected.get("iterations")
    assert result.get("back", True)
    assert result.get("apart", 0.0) == 0.0


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("case", "run"), [(case, run) for case in worker.CASES for run in worker.runs_of(case)]
)
def test_mirrored_replicas_end_with_the_same_weights(mirrored, case, run):
    rtol = RTOL_FLOAT16 if case == "mixed_float16" else RTOL
    assert_same(mirrored[case][run], mirrored[case]["one"], rtol)


@pytest.mark.tensorflow
def test_every_case_does_what_it_is_for(mirrored):
    """A limit that never bites would prove nothing."""
    plain = np.array(mirrored["plain"]["one"]["weights"])
    for case in worker.CASES:
        if case not in ("plain", "compiled_large"):
            weights = mirrored[case]["one"]["weights"]
            assert np.abs(plain - weights).max() > 1e-3, case
    for case in ("ema", "ema_overwrite", "nesterov", "nonfinite_skip"):
        one = mirrored[case]["one"]
        assert np.abs(np.subtract(one["shown"], one["weights"])).max() > 1e-4, case
    steps = {case: mirrored[case]["one"]["iterations"] for case in worker.CASES}
    # Of twelve steps; in two of them the batch is broken.
    assert steps["plain"] == 12
    assert steps["accumulation_clipnorm"] == 6
    assert steps["accumulation_global_clipnorm"] == 4
    assert steps["nonfinite_skip"] == 5


@pytest.mark.tensorflow
def test_broken_gradient_of_one_replica_stops_all(mirrored):
    """The error names a variable, and none of the copies has been touched."""
    for run in ("one", "loop 4"):
        result = mirrored["nonfinite_raise"][run]
        assert "NaN or infinity" in result["raised"]
        assert result["iterations"] == 3
        assert np.isfinite(result["weights"]).all()


@pytest.mark.tensorflow
@pytest.mark.parametrize("run", ["run", "scope"])
def test_mirrored_replicas_without_a_graph(mirrored, run):
    assert_same(mirrored["eager"][run], mirrored["eager"]["one"])


@pytest.mark.tensorflow
@pytest.mark.parametrize("case", worker.MULTI_WORKER)
def test_two_workers_end_with_the_same_weights(workers, mirrored, case):
    for each in workers:
        assert_same(each[case], mirrored[case]["one"])


@pytest.mark.parametrize(
    ("case", "layout"), [(case, run) for case in worker.JAX for run in worker.layouts_of(case)]
)
def test_devices_of_jax_end_with_the_same_weights(distributed, case, layout):
    assert_same(distributed[case][layout], distributed[case]["one"])
