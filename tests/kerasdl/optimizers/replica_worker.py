"""Trains small models on one device and on several, in a process of its own.

TensorFlow's logical devices, `TF_CONFIG` and JAX's number of devices have to be settled before
the backend starts, so `test_replicas.py` starts this file: `replica_worker.py WHAT FILE` with
WHAT one of "mirrored", "multi_worker" and "jax" writes its results to FILE as JSON.
"""

import gc
import json
import os
import sys
import tempfile
import traceback
import warnings

import numpy as np

BATCH = 16
STEPS = 6
EPOCHS = 2
ROWS = 20
REPLICAS = (1, 2, 4)

# Of each case the optimizer and its arguments.
CASES = {
    "plain": ("SGD", {"learning_rate": 0.5}),
    "clipnorm": ("SGD", {"learning_rate": 0.5, "clipnorm": 0.02}),
    "clipvalue": ("SGD", {"learning_rate": 0.5, "clipvalue": 0.003}),
    "global_clipnorm": ("SGD", {"learning_rate": 0.5, "global_clipnorm": 0.05}),
    "average_clipnorm": ("SGD", {"learning_rate": 0.5, "average_clipnorm": 0.0005}),
    "accumulation_clipnorm": (
        "SGD",
        {"learning_rate": 0.5, "clipnorm": 0.02, "gradient_accumulation_steps": 2},
    ),
    "accumulation_global_clipnorm": (
        "Adam",
        {"global_clipnorm": 0.05, "gradient_accumulation_steps": 3},
    ),
    "ema": ("Adam", {"amsgrad": True, "use_ema": True, "ema_momentum": 0.8}),
    "ema_overwrite": (
        "SGD",
        {
            "learning_rate": 0.5,
            "use_ema": True,
            "ema_momentum": 0.8,
            "ema_overwrite_frequency": 4,
            "gradient_accumulation_steps": 2,
        },
    ),
    "saved": (
        "Adam",
        {"amsgrad": True, "use_ema": True, "clipnorm": 0.02, "gradient_accumulation_steps": 2},
    ),
    "noise_and_multipliers": (
        "AdamW",
        {
            "weight_decay": 0.1,
            "learning_rate_multipliers": {"first": 0.1, "*/bias": 2.0},
            "weight_decay_multipliers": {"bias": 0.0},
            "gradient_noise": 1e-4,
            "seed": 3,
        },
    ),
    "nonfinite_skip": (
        "Adam",
        {"nonfinite": "skip", "use_ema": True, "gradient_accumulation_steps": 2},
    ),
    "nonfinite_raise": ("SGD", {}),
    "lazy": ("Adam", {"lazy": True, "learning_rate": 0.05, "clipnorm": 0.02}),
    "nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "scalar_slots": ("Nadam", {}),
    "compiled_large": ("Adam", {"clipnorm": 0.02}),
    "loss_scale": ("Adam", {"clipnorm": 0.02}),
    "mixed_float16": ("SGD", {"learning_rate": 0.5, "global_clipnorm": 0.05}),
}
PROMISED = tuple(CASES)[1:9]
MULTI_WORKER = ("global_clipnorm", "accumulation_clipnorm", "ema_overwrite", "lazy")
JAX = (
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "average_clipnorm",
    "accumulation_clipnorm",
    "ema_overwrite",
    "nonfinite_skip",
)


def runs_of(case):
    """How a case is trained on several devices: by what, and on how many replicas."""
    special = {
        "plain": (),
        # After an error collectives cannot go on; four replicas do without.
        "nonfinite_raise": ("loop 4",),
        "lazy": ("fit 2",),
        "saved": ("saved by 2", "loaded by 4"),
    }
    more = {"ema_overwrite": ("fit 2",), "accumulation_global_clipnorm": ("fit 4",)}
    loops = tuple(f"loop {n}" for n in (REPLICAS if case in PROMISED else (2,)))
    return special.get(case, loops + more.get(case, ()))


def layouts_of(case):
    """How a case is laid out on the devices of JAX."""
    every = ("data 1", "data 2", "data 4", "model")
    return every if case in ("global_clipnorm", "ema_overwrite") else ("data 2", "data 4")


def data(case):
    """Ids to embed and targets; the fourth batch of the NaN cases is broken in one row."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, ROWS, size=(STEPS * BATCH, 3)).astype("int32")
    y = rng.normal(size=(STEPS * BATCH, 2))
    if case.startswith("nonfinite"):
        y[3 * BATCH + 13, 1] = np.nan
    return x, y


def make_model(case):
    """Embedding and two dense layers; the same start every time."""
    import keras

    floatx = "float32" if case == "mixed_float16" else "float64"
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy("mixed_float16" if case == "mixed_float16" else floatx)
    rows = 2**15 if case == "compiled_large" else ROWS
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(rows, 4, name="embedding"),
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation="tanh", use_bias=False, name="first"),
            keras.layers.Dense(2, name="second"),
        ]
    )
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(scale=0.3, size=w.shape) for w in model.weights])
    return model


def make_optimizer(case):
    import keras

    import kerasdl.optimizers

    name, options = CASES[case]
    optimizer = getattr(kerasdl.optimizers, name)(**options)
    if case in ("loss_scale", "mixed_float16"):
        return keras.optimizers.LossScaleOptimizer(
            optimizer, initial_scale=2.0**10, dynamic_growth_steps=5
        )
    return optimizer


def outcome(model):
    """Weights, what `swap_weights` shows, the count of steps, and how far copies differ."""
    optimizer = model.optimizer
    result = {"iterations": int(np.asarray(optimizer.iterations)), "apart": apart(model)}
    result["weights"] = flat(model)
    if not (optimizer.use_ema or getattr(optimizer, "nesterov", False)):
        return result
    optimizer.swap_weights()
    result["shown"] = flat(model)
    result["apart"] = max(result["apart"], apart(model))
    optimizer.swap_weights()
    result["back"] = flat(model) == result["weights"]
    return result


def flat(model):
    return np.concatenate([np.ravel(w) for w in model.get_weights()]).astype("float64").tolist()


def apart(model):
    """Largest difference between the copies of any variable in this process."""
    largest = 0.0
    for variable in [*model.variables, *model.optimizer.variables]:
        copies = [np.array(copy, "float64") for copy in getattr(variable.value, "values", ())]
        largest = max([largest, *(float(np.abs(c - copies[0]).max(initial=0)) for c in copies)])
    return largest


def compiled(case):
    model = make_model(case)
    model.compile(make_optimizer(case), loss="mse")
    return model


def by_fit(case, strategy):
    """`fit`, on a dataset of which every worker takes its share."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batches = tf.data.Dataset.from_tensor_slices(data(case)).batch(BATCH).with_options(options)
    with strategy.scope():
        model = compiled(case)
        model.fit(batches, epochs=EPOCHS, verbose=0)
    return outcome(model)


def by_loop(case, strategy):
    """A loop of `strategy.run`."""
    with strategy.scope():
        model = compiled(case)
        model.optimizer.build(model.trainable_variables)
    raised = ""
    try:
        train(model, case, strategy, range(STEPS * EPOCHS))
    except Exception as error:
        if case != "nonfinite_raise":
            raise
        raised = str(error)
    return {**outcome(model), "raised": raised}


def train(model, case, strategy, steps):
    """Some steps, each replica on its share of the batch."""
    import tensorflow as tf

    x, y = data(case)
    share = BATCH // strategy.num_replicas_in_sync
    optimizer = model.optimizer

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((model(x, training=True) - y) ** 2) / (BATCH * y.shape[-1])
            loss = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    run = tf.function(lambda x, y: strategy.run(step, args=(x, y)), autograph=False)

    def split(array):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[context.replica_id_in_sync_group * share :][:share])
        )

    for i in steps:
        rows = slice(i % STEPS * BATCH, i % STEPS * BATCH + BATCH)
        run(split(x[rows]), split(y[rows].astype(model.compute_dtype)))


def by_file(case, first, second):
    """Half of the steps under one strategy, saved, the other half under another."""
    import keras

    steps = range(STEPS * EPOCHS)
    with first.scope():
        model = compiled(case)
        model.optimizer.build(model.trainable_variables)
    train(model, case, first, steps[:5])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        with second.scope():
            model = keras.saving.load_model(path)
    train(model, case, second, steps[5:])
    return outcome(model)


def eagerly(strategy):
    """Three steps without a graph, by an optimizer that is built in the first."""
    import keras

    with strategy.scope():
        keras.config.set_floatx("float64")
        variable, optimizer = keras.Variable(np.ones(3)), make_optimizer("clipnorm")
    share = 1.0 / strategy.num_replicas_in_sync
    for _ in range(3):
        strategy.run(lambda: optimizer.apply([variable * share], [variable]))
    return {"weights": variable.numpy().tolist()}


def in_scope(strategy):
    """The same outside of `strategy.run`, where a gradient is not one replica's."""
    import keras

    with strategy.scope():
        variable, optimizer = keras.Variable(np.ones(3)), make_optimizer("clipnorm")
        for _ in range(3):
            optimizer.apply([variable * 1.0], [variable])
    return {"weights": variable.numpy().tolist()}


def attempted(function, *arguments):
    """The result, or the error as text."""
    try:
        return function(*arguments)
    except Exception:  # noqa: BLE001
        return {"error": traceback.format_exc()}


def mirrored():
    """Every case without a strategy, and mirrored on logical CPUs."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration()] * max(REPLICAS)
    tf.config.set_logical_device_configuration(cpu, devices)
    # Collectives of two sizes do not go together in one process, nor do they survive an error.
    reductions = {1: None, 2: None, 4: tf.distribute.ReductionToOneDevice()}
    strategies = {
        n: tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(n)], reductions[n])
        for n in REPLICAS
    }
    none = tf.distribute.get_strategy()
    results = {}
    for case in CASES:
        results[case] = {"one": attempted(by_loop, case, none)}
        for run in runs_of(case):
            how, n = run.rsplit(" ", 1)
            strategy = strategies[int(n)]
            if how == "saved by":
                result = attempted(by_file, case, strategy, none)
            elif how == "loaded by":
                result = attempted(by_file, case, none, strategy)
            else:
                result = attempted({"loop": by_loop, "fit": by_fit}[how], case, strategy)
            results[case][run] = result
    results["eager"] = {
        "one": attempted(eagerly, none),
        "run": attempted(eagerly, strategies[2]),
        "scope": attempted(in_scope, strategies[2]),
    }
    return results


def multi_worker():
    """Some cases as one of several workers, which `TF_CONFIG` lists."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    return {case: attempted(by_loop, case, strategy) for case in MULTI_WORKER}


def jax():
    """Some cases with `keras.distribution` on several devices of JAX."""
    import jax
    import keras
    from keras.distribution import DataParallel, DeviceMesh, LayoutMap, ModelParallel

    jax.config.update("jax_enable_x64", True)
    devices = keras.distribution.list_devices()
    distributions = {"one": None}
    for n in REPLICAS:
        distributions[f"data {n}"] = DataParallel(devices=devices[:n])
    layouts = LayoutMap(DeviceMesh((2, 2), ("batch", "model"), devices))
    layouts["embedding/embeddings"] = (None, "model")
    layouts["first/kernel"] = (None, "model")
    distributions["model"] = ModelParallel(layout_map=layouts, batch_dim_name="batch")

    def fit(case, distribution):
        keras.distribution.set_distribution(distribution)
        model = compiled(case)
        x, y = data(case)
        model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0)
        return outcome(model)

    return {
        case: {
            name: attempted(fit, case, distributions[name]) for name in ("one", *layouts_of(case))
        }
        for case in JAX
    }


def main():
    what, path = sys.argv[1:]
    warnings.simplefilter("ignore")
    # Tracing makes many objects and hardly any garbage.
    gc.disable()
    results = {"mirrored": mirrored, "multi_worker": multi_worker, "jax": jax}[what]()
    with open(path, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main()
