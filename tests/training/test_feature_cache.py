import keras
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.training.array_store import ArrayStore, StoredArrays
from kmm.training.feature_cache import compute_features, open_features

FILMS = np.random.default_rng(0).normal(size=(600, 2, 2, 1)).astype(np.float32)


def digests(count, missing=()):
    return ["" if row in missing else f"{row:064d}" for row in range(count)]


class Encoder:
    """Sums of a film as a sequence of shape (2, 1), and how often it was asked."""

    def __init__(self):
        self.films = 0

    def __call__(self, films):
        self.films += len(films)
        return np.stack([films.sum(axis=(1, 2, 3)), films.max(axis=(1, 2, 3))], axis=1)[..., None]


@pytest.mark.parametrize("stored", [True, False])
def test_features_are_those_of_the_encoder_and_zero_where_no_film_is(tmp_path, stored):
    store = ArrayStore(tmp_path / "features") if stored else None
    features = compute_features(Encoder(), FILMS, digests(10, missing={3}), store, batch_size=4)
    expected = FILMS[:10].sum(axis=(1, 2, 3))
    expected[3] = 0
    assert isinstance(features, StoredArrays if stored else np.ndarray) and features.shape == (10, 2, 1)
    np.testing.assert_allclose(np.asarray(features)[:, 0, 0], expected, rtol=1e-5)


def test_no_film_at_all_gives_zeros(tmp_path):
    for store in (None, ArrayStore(tmp_path / "features")):
        assert not np.asarray(compute_features(Encoder(), FILMS, ["", ""], store)).any()


def test_a_second_run_computes_only_what_is_new(tmp_path):
    first, second, third = Encoder(), Encoder(), Encoder()
    compute_features(first, FILMS, digests(300), ArrayStore(tmp_path / "f"), batch_size=50)
    compute_features(second, FILMS, digests(310), ArrayStore(tmp_path / "f"), batch_size=10)
    again = compute_features(third, FILMS, digests(310), ArrayStore(tmp_path / "f"), batch_size=10)
    assert (first.films, second.films, third.films) == (300, 10, 0)
    np.testing.assert_allclose(again[range(310)][:, 0, 0], FILMS[:310].sum(axis=(1, 2, 3)), rtol=1e-5)


def test_a_stopped_run_keeps_all_but_the_last_shard(tmp_path):
    class Stopped(Encoder):
        def __call__(self, films):
            if self.films >= 500:
                raise KeyboardInterrupt
            return super().__call__(films)

    with pytest.raises(KeyboardInterrupt):
        compute_features(Stopped(), FILMS, digests(600), ArrayStore(tmp_path / "f"), batch_size=50)
    rest = Encoder()
    compute_features(rest, FILMS, digests(600), ArrayStore(tmp_path / "f"), batch_size=50)
    assert rest.films == 350  # 600 - 256, in batches of 50


def test_too_small_a_disk_is_said_before_features_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(InputError, match="too little free disk space: features of films need"):
        compute_features(Encoder(), FILMS, digests(600), ArrayStore(tmp_path / "f"))
    assert not list(tmp_path.iterdir())


def make_encoder(units=2, *, activation="relu", value=1.0):
    """A network whose layers have another name each time."""
    image = keras.Input((2, 2, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(0.5)(image))
    x = keras.layers.Dense(units, activation=activation, kernel_initializer=keras.initializers.Constant(value))(x)
    return keras.Model(image, x, name="image_encoder")


def test_whatever_decides_the_numbers_is_in_the_name_of_the_store_and_nothing_else(tmp_path):
    def name(encoder, **preparation):
        return open_features(tmp_path, "tiny", encoder, {"pixels": 2, **preparation}).folder.name

    plain = make_encoder()
    others = [make_encoder(3), make_encoder(activation="tanh"), make_encoder(value=2.0)]
    found = {name(plain), *map(name, others), name(plain, pixels=3), name(plain, version=2)}
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        found.add(name(plain))
    finally:
        keras.config.set_dtype_policy(policy)
    assert len(found) == 7 and all(one.startswith("features-tiny-") for one in found)
    plain.compile("sgd", "mse")
    plain.predict_on_batch(FILMS[:1])
    assert name(plain) in found and not list(tmp_path.iterdir())
