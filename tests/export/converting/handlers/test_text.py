"""Every text and every number gives in ONNX what it gives in Keras, however odd it is."""

import re
import string
from functools import cache

import keras
import numpy as np
import onnx_ir as ir
import pytest
import tensorflow as tf
from keras import layers

from kerasdl import export
from kerasdl.export.converting.calls import PUNCTUATION, shorter_calls
from kerasdl.export.converting.convert import convert
from kerasdl.export.converting.handlers.patterns import literals
from kerasdl.export.converting.opset import raise_opset
from kerasdl.export.converting.weights import Weights
from kerasdl.export.files.runtime import open_session
from kerasdl.export.graphs.graph import flatten_layers
from kerasdl.export.ports import Port

pytestmark = pytest.mark.tensorflow

OPSET = 20
WORDS = ["the", "movie", "was", "great", "a", "b", "c", "i", "am", "i am", "new york", "its"]
WORDS += ["ß", "é", "漢字", "😀", "a b", "b a", "a b c"]
TEXTS = [
    "the movie was great",
    "The MOVIE, was -- great!!!",
    "it's the 'best' I am (i am) new york; New-York",
    "",
    " ",
    "     ",
    "\t\n",
    " a\tb\nc\r\nd\x0be\x0cf  a b c ",
    "É é ß ẞ İ K",
    "漢字 😀😀 😀, 漢字!",
    "\u00a0a\u00a0 b\u3000c \u2028a\x1cb \x85 e\u0301",
    "...",
    string.punctuation,
    " ".join(string.punctuation),
    "a" + "a".join(string.punctuation) + "b",
    "[UNK] [unk]",
    "zebra Zebra zebra",
    "a,b " * 40 + "-" * 90,
    "x" * 5000 + " the",
    "<br />a<br />b <br/> <br /><br />",
    "a,,b,",
    ",",
]


def files_of(call, *ports, opset=OPSET):
    """Sessions with onnxruntime's optimizations off and on."""
    # Weights make it fast, even none.
    model = convert(lambda *tensors: [call(*tensors)], ports, opset, weights=Weights([]))
    raise_opset(model, opset)
    content = ir.to_proto(model).SerializeToString()
    return [open_session(content, optimized) for optimized in (False, True)]


def agree(call, files, *arrays):
    wanted = np.asarray(call(*map(tf.constant, arrays)))
    if wanted.dtype == object:
        wanted = np.vectorize(bytes.decode, otypes=[object])(wanted)
    for file in files:
        found = file.run(None, {f"input_{i}": x for i, x in enumerate(arrays)})[0]
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        assert np.array_equal(found, wanted), [*zip(arrays[0].tolist(), found, wanted, strict=True)]


def batches(texts, rank=2):
    """One at a time, three at a time, all, none."""
    every = np.array(texts, object).reshape([-1] + [1] * (rank - 1))
    yield every
    yield every[:0].astype(str)
    for size in (1, 3):
        yield from (every[start : start + size] for start in range(0, len(texts), size))


@cache
def weights():
    return np.random.default_rng(0).uniform(0.5, 3, len(WORDS)).tolist()


def commas(x):
    return tf.strings.split(x, ",")


def tutorial(x):
    """As many texts on the web do it."""
    x = tf.strings.regex_replace(tf.strings.lower(x), "<br />", " ")
    return tf.strings.regex_replace(x, f"[{re.escape(string.punctuation)}]", "")


LAYERS = {
    "of the default": {},
    "cut off": {"output_sequence_length": 3},
    "filled up": {"output_sequence_length": 200, "standardize": "lower"},
    "in lower case": {"standardize": "lower", "output_mode": "count"},
    "without punctuation": {"standardize": "strip_punctuation"},
    "as they are": {"standardize": None},
    "that are one word": {"split": None},
    "that are one word, counted": {"split": None, "output_mode": "count", "standardize": None},
    "as a set": {"output_mode": "multi_hot"},
    "as a set among more": {
        "output_mode": "multi_hot",
        "max_tokens": 40,
        "pad_to_max_tokens": True,
    },
    "counted": {"output_mode": "count"},
    "weighed": {"output_mode": "tf_idf", "idf_weights": weights()},
    "in pairs": {"ngrams": 2},
    "in groups": {"ngrams": (3, 1), "output_sequence_length": 4},
    "in groups, counted": {"ngrams": 3, "output_mode": "count", "standardize": None},
    "as in tutorials": {"standardize": tutorial},
    "between commas": {"split": commas, "standardize": None},
}


def quick(names, *those):
    """All of these names, of which only those are quick tests."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=[] if name in those else slow) for name in names]


@pytest.mark.parametrize("name", quick(LAYERS, "of the default", "in groups, counted", "cut off"))
def test_texts(name):
    layer = layers.TextVectorization(vocabulary=WORDS, **LAYERS[name])
    same_words(layer)


def same_words(layer, rank=2, texts=TEXTS):
    def traced(x):
        with shorter_calls(flatten_layers(layer), OPSET):
            return layer(x)

    files = files_of(traced, Port("x", (None, 1)[:rank], "string"))
    for batch in batches(texts, rank):
        agree(layer, files, batch)


@pytest.mark.slow
def test_texts_without_an_axis():
    same_words(layers.TextVectorization(vocabulary=WORDS), rank=1)


def test_words_learned_from_data():
    layer = layers.TextVectorization(max_tokens=6, output_mode="tf_idf")
    layer.adapt(["the movie was great", "the movie was bad", "a bad movie"])
    same_words(layer)


@pytest.mark.slow
def test_random_texts(rng):
    letters = list(
        "abABc   \t\n\r\v\f.,!?'\"-:;()#$%&*+/<=>@[\\]^_`{|}~éß漢😀İ\u00a0\u2028\u0301\x7f"
    )
    texts = ["".join(rng.choice(letters, rng.integers(0, 40))) for _ in range(200)]
    same_words(layers.TextVectorization(vocabulary=WORDS, ngrams=2), texts=texts)


# Operations


def every_character():
    codes = [*range(1, 0xD800), *range(0xE000, 0x110000, 7)]
    return np.array([f"a{chr(code)}b" for code in codes], object)


@pytest.mark.parametrize("change", [tf.strings.lower, tf.strings.upper])
def test_case_of_every_character(change):
    agree(change, files_of(change, Port("x", (None,), "string")), every_character())
    letters = np.array(["aB", "É", "", "c"], object).reshape(2, 1, 2)
    files = files_of(change, Port("x", (None, 1, None), "string"))
    agree(change, files, letters)
    agree(change, files, letters[:0].astype(str))


def test_other_alphabets_are_refused():
    with pytest.raises(export.ConversionError, match="StringLower"):
        files_of(lambda x: tf.strings.lower(x, "utf-8"), Port("x", (None,), "string"))


def test_words_end_at_the_same_characters():
    call = lambda x: tf.strings.split(x).row_lengths()  # noqa: E731
    agree(call, files_of(call, Port("x", (None,), "string")), every_character())


@pytest.mark.parametrize(
    ("pattern", "by"),
    [
        (PUNCTUATION, ""),
        ("[aeiou]", ""),
        ("[a-c]", "<>"),
        ("a", "aa"),
        ("aa", "a"),
        ("<br />", " "),
        (r"\.\n", "é"),
        ("[é漢😀]", ""),
        (r"[\t\-\]]", "_"),
    ],
)
def test_patterns(pattern, by, rng):
    call = lambda x: tf.strings.regex_replace(x, pattern, by)  # noqa: E731
    files = files_of(call, Port("x", (None,), "string"))
    letters = list("aaabc. <br />é漢😀\t\n-]")
    texts = ["".join(rng.choice(letters, rng.integers(0, 12))) for _ in range(100)]
    for given in (TEXTS, texts, ["aaaaa", "aa aaa", ".\n.\n\n"]):
        agree(call, files, np.array(given, object))
    agree(call, files, np.array([], str))


@pytest.mark.parametrize(
    ("pattern", "by"),
    [(r"\d", ""), ("a|b", ""), ("[^a]", ""), ("a+", ""), ("(a)", r"\1"), ("", "")],
)
def test_patterns_that_stand_for_more_are_refused(pattern, by):
    call = lambda x: tf.strings.regex_replace(x, pattern, by)  # noqa: E731
    with pytest.raises(export.ConversionError, match=r"Replace \(no form of the pattern"):
        files_of(call, Port("x", (None,), "string"))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x: tf.strings.regex_replace(x, "[ab]", "ba"), "StaticRegexReplace"),
        (
            lambda x: tf.strings.regex_replace(x, "a", "b", replace_global=False),
            "StaticRegexReplace",
        ),
        (lambda x: tf.strings.split(x, ",", maxsplit=1).values, "StringSplitV2"),
        (lambda x: tf.strings.unicode_split(x, "UTF-8").values, "UnicodeDecode"),
    ],
)
def test_what_is_refused(call, match):
    with pytest.raises(export.ConversionError, match=match):
        files_of(call, Port("x", (None,), "string"))


def test_what_patterns_stand_for():
    assert literals(PUNCTUATION) is not None
    assert sorted(literals(PUNCTUATION)) == sorted(string.punctuation)
    assert literals("[ab-da]") == ["a", "b", "c", "d"]
    assert literals("[a-]") == ["a", "-"]
    assert literals(r"\[a\]") == ["[a]"]
    none = ["", "[]", "[^a]", r"[\d]", "[[:alpha:]]", "[d-a]", "[a][b]", "a?", "a\\", r"\w", "."]
    assert not any(map(literals, none))


# Ragged rows


@pytest.mark.slow
def test_rows_of_different_lengths(rng):
    values = rng.normal(size=9).astype("float32")
    rows = np.array([0, 0, 1, 3, 3, 3, 3, 6, 6], "int64")
    kinds = {
        "rows": lambda v, r: tf.RaggedTensor.from_value_rowids(v, r, 8, validate=False),
        "ends": lambda v, r: tf.RaggedTensor.from_row_splits(
            v, tf.cast(r[-4:], tf.int64), validate=False
        ),
    }
    splits = np.array([0, 5, 5, 9], "int64")
    for kind, given in (("rows", rows), ("ends", splits)):
        for shape in (None, (None, 2), (3, None), (2, 9)):
            call = lambda v, r, k=kind, s=shape: kinds[k](v, r).to_tensor(-1.0, shape=s)  # noqa: E731
            ports = [Port("v", (None,), "float32"), Port("r", (None,), "int64")]
            files = files_of(call, *ports)
            agree(call, files, values, given)
            if kind == "rows":
                agree(call, files, values[:0], rows[:0])


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_counts(dtype, binary, rng):
    call = lambda x: tf.math.bincount(x, None, 4, 6, tf.float32, "x", -1, binary)  # noqa: E731
    call_flat = lambda x: tf.math.bincount(x, None, 6, 6, tf.float32, "x", 0, binary)  # noqa: E731
    x = rng.integers(0, 9, (5, 7)).astype(dtype)
    files = files_of(call, Port("x", (None, None), dtype))
    agree(call, files, x)
    agree(call, files, np.minimum(x, 3))
    fixed = lambda x: tf.math.bincount(x, None, 6, 6, tf.float32, "x", -1, binary)  # noqa: E731
    files = files_of(fixed, Port("x", (None, None), dtype))
    for given in (x, x[:0], x[:, :0]):
        agree(fixed, files, given)
    agree(call_flat, files_of(call_flat, Port("x", (None,), dtype)), x.ravel())


# Whole models


def classifier(**options):
    words = layers.TextVectorization(vocabulary=WORDS, name="words", **options)
    ends = [layers.Embedding(30, 4), layers.GlobalAveragePooling1D(), layers.Dense(2)]
    if options.get("output_mode", "int") != "int":
        ends = [layers.Dense(2)]
    return keras.Sequential([keras.Input((1,), dtype="string", name="x"), words, *ends])


@pytest.mark.parametrize(
    "options",
    [
        {"output_sequence_length": 9},
        pytest.param({"output_mode": "tf_idf"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("opset", quick([20, 26], 20))
def test_a_classifier_of_texts(options, opset, tmp_path):
    if "output_mode" in options:
        options = {**options, "idf_weights": weights()}
    model = classifier(**options)
    data = {"x": np.array(TEXTS, object)[:, np.newaxis]}
    report = export.to_onnx(model, tmp_path / "model.onnx", opset=opset, data=data)
    assert report.passed
    assert report.opset == opset


def test_the_operator_set_is_the_first_that_has_all_operators(tmp_path):
    paths = tmp_path / "free.onnx", tmp_path / "asked.onnx"
    model = classifier()
    assert export.to_onnx(model, paths[0]).opset == 20
    assert export.to_onnx(model, paths[1], opset=20).opset == 20
    assert paths[0].read_bytes() == paths[1].read_bytes()
    report = export.verify(model, paths[0])
    assert report.passed
    assert report.constants is not None


@pytest.mark.parametrize("opset", quick([13, 19], 19))
def test_earlier_operator_sets_are_refused(opset, tmp_path):
    message = f"Layer `words` cannot be written in opset {opset}.* Pass opset=20 or a later one"
    with pytest.raises(export.ConversionError, match=message) as caught:
        export.to_onnx(classifier(), tmp_path / "model.onnx", opset=opset)
    assert caught.value.layer == "words"
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ragged": True}, "ONNX has no ragged tensors"),
        pytest.param({"split": "character"}, "UnicodeDecode", marks=pytest.mark.slow),
        pytest.param(
            {"output_mode": "count", "sparse": True},
            "RaggedCountSparseOutput",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_layers_that_are_refused(options, message, tmp_path):
    words = layers.TextVectorization(vocabulary=WORDS, name="words", **options)
    model = keras.Sequential([keras.Input((1,), dtype="string"), words])
    with pytest.raises(export.ConversionError, match=message) as caught:
        export.to_onnx(model, tmp_path / "model.onnx", opset=OPSET)
    assert caught.value.layer == "words"


def test_a_vocabulary_is_needed(tmp_path):
    words = layers.TextVectorization(name="words")
    model = keras.Sequential([keras.Input((1,), dtype="string"), words])
    with pytest.raises(export.ConversionError, match="`words`.*adapt") as caught:
        export.to_onnx(model, tmp_path / "model.onnx", opset=OPSET)
    assert caught.value.layer == "words"


class Inside(layers.Layer):
    """Layers with vocabularies that lie in another one."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.words = layers.TextVectorization(vocabulary=WORDS, output_mode="multi_hot")
        self.lookup = layers.StringLookup(vocabulary=WORDS)

    def call(self, x):
        return self.words(x), self.lookup(x)

    def compute_output_spec(self, x):
        return keras.KerasTensor((None, 20), "float32"), keras.KerasTensor((None, 1), "int64")


def test_vocabularies_inside_other_layers(tmp_path):
    inputs = keras.Input((1,), dtype="string", name="x")
    model = keras.Model(inputs, Inside()(inputs))
    data = {"x": np.array(TEXTS, object)[:, np.newaxis]}
    assert export.to_onnx(model, tmp_path / "model.onnx", opset=OPSET, data=data).passed


# Hashes


def numbers(dtype, rng):
    """Of every length, the ends of the type among them."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    powers = [10**k + step for k in range(20) for step in (-1, 0, 1, 7)]
    drawn = [int(x) for bits in range(2, 64) for x in rng.integers(0, 2**bits, 5)]
    every = [least, least + 1, most, *powers, *drawn]
    every += [-x for x in every]
    return np.array([x for x in every if least <= x <= most], dtype)[:, np.newaxis]


HASHES = {
    "fast": {"num_bins": 10**9},
    "fast, of few bins": {"num_bins": 3, "mask_value": 10},
    "strong": {"num_bins": 2**62, "salt": [5, -7]},
    "strong, of one salt": {"num_bins": 11, "salt": 1337},
    "one hot": {"num_bins": 5, "output_mode": "one_hot"},
    "counted": {"num_bins": 5, "output_mode": "count", "salt": 1},
}


@pytest.mark.parametrize("dtype", quick(["int64", "int32", "uint8"], "int64"))
@pytest.mark.parametrize("name", HASHES)
def test_hashes_of_whole_numbers(name, dtype, rng):
    layer = layers.Hashing(**HASHES[name])
    x = numbers(dtype, rng)
    files = files_of(layer, Port("x", (None, 1), dtype), opset=18)
    for given in (x, x[:0], x[:1]):
        agree(layer, files, given)


def test_hashes_of_several_numbers(rng):
    layer = layers.Hashing(1000)
    x = numbers("int64", rng)[:300].reshape(-1, 2, 3)
    agree(layer, files_of(layer, Port("x", (None, None, 3), "int64"), opset=18), x)


@pytest.mark.parametrize("output_mode", ["int", "one_hot"])
@pytest.mark.parametrize("shape", [(None, 1), (None,)])
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_crossed_hashes(dtype, shape, output_mode, rng):
    layer = layers.HashedCrossing(2**40 if output_mode == "int" else 7, output_mode=output_mode)
    x = numbers(dtype, rng).reshape([-1, 1][: len(shape)])
    given = [x, rng.permutation(x), x[::-1]]
    call = lambda *xs: layer(list(xs))  # noqa: E731
    files = files_of(call, *(Port(f"x{i}", shape, dtype) for i in range(3)), opset=18)
    agree(call, files, *given)
    for file in files:  # Keras itself has an error there
        nothing = file.run(None, {f"input_{i}": y[:0] for i, y in enumerate(given)})[0]
        assert len(nothing) == 0


def test_unknown_numbers_are_hashed(tmp_path, rng):
    layer = layers.IntegerLookup(
        vocabulary=[5, -3, 10**12], num_oov_indices=50, oov_method="farmhash", salt=[1, 2]
    )
    model = keras.Sequential([keras.Input((1,), dtype="int64", name="x"), layer])
    data = {"x": numbers("int64", rng)}
    assert export.to_onnx(model, tmp_path / "model.onnx", data=data).passed


@pytest.mark.parametrize(
    "layer", [layers.Hashing(5, name="hash"), layers.HashedCrossing(5, name="hash")]
)
def test_hashes_of_strings_are_refused(layer, tmp_path):
    x, y = keras.Input((1,), dtype="string"), keras.Input((1,), dtype="string")
    given = [x, y] if isinstance(layer, layers.HashedCrossing) else [x]
    model = keras.Model(given, layer(given if len(given) > 1 else x))
    with pytest.raises(export.ConversionError, match="`hash`.* Hash them before") as caught:
        export.to_onnx(model, tmp_path / "model.onnx")
    assert caught.value.layer == "hash"


@pytest.mark.parametrize("salt", [None, 3])
def test_hashes_need_opset_18(salt, tmp_path):
    layer = layers.Hashing(5, salt=salt, name="hash")
    model = keras.Sequential([keras.Input((1,), dtype="int64"), layer])
    with pytest.raises(export.ConversionError, match="Pass opset=18 or a later one"):
        export.to_onnx(model, tmp_path / "model.onnx", opset=17)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_indices_are_not_moved_by_rounding(dtype, tmp_path):
    x = keras.Input((2,), dtype=dtype)
    model = keras.Model(x, layers.Embedding(5, 3)(layers.Hashing(5)(x)))
    assert export.to_onnx(model, tmp_path / "model.onnx").worst.tolerance < 1e-6
