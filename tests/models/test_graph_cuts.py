"""Where a graph can be cut, by graphs whose answer is plain to see."""

import keras
from keras import layers

from kmm.models.views.graph_cuts import list_cuts


def test_a_chain_is_cut_anywhere_but_at_its_ends():
    x = start = keras.Input((4,))
    for name in ("a", "b", "c"):
        x = layers.Dense(4, name=name)(x)
    assert list_cuts(keras.Model(start, x)) == ["a", "b"]


def test_a_branch_is_cut_before_and_behind_it():
    start = keras.Input((4,))
    a = layers.Dense(4, name="a")(start)
    b, c = layers.Dense(4, name="b")(a), layers.Dense(4, name="c")(a)
    both = layers.Add(name="sum")([b, layers.Dense(4, name="d")(c)])
    assert list_cuts(keras.Model(start, layers.ReLU(name="end")(both))) == ["a", "sum"]


def test_a_path_around_everything_leaves_no_cut():
    start = keras.Input((4,))
    x = layers.Dense(4, name="b")(layers.Dense(4, name="a")(start))
    assert list_cuts(keras.Model(start, layers.Add(name="sum")([start, x]))) == []


def test_a_shared_layer_and_a_layer_of_two_outputs_are_no_cuts():
    start = keras.Input((4, 3))
    shared = layers.Dense(3, name="shared")
    x = layers.ReLU(name="between")(shared(start))
    x = layers.ReLU(name="after")(shared(x))
    sequence, state = layers.GRU(3, return_sequences=True, return_state=True, name="gru")(x)
    x = layers.Concatenate(name="joined")([layers.GlobalMaxPooling1D(name="pool")(sequence), state])
    assert list_cuts(keras.Model(start, layers.ReLU(name="end")(x))) == ["between", "after", "joined"]


def test_every_output_must_follow_from_a_cut():
    start = keras.Input((4,))
    a = layers.Dense(4, name="a")(start)
    b = layers.Dense(4, name="b")(a)
    model = keras.Model(start, {"early": layers.ReLU(name="early")(a), "late": [layers.ReLU(name="late")(b)]})
    assert list_cuts(model) == ["a"]
