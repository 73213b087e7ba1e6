from types import SimpleNamespace

import numpy as np

from kmm.training.feature_cache import FeatureCache, compute_features

FILMS = np.random.default_rng(0).normal(size=(600, 2, 2, 1)).astype(np.float32)


def prepared(count, missing=()):
    digests = ["" if row in missing else f"{row:064d}" for row in range(count)]
    return SimpleNamespace(studies=[None] * count, image=FILMS, image_digests=digests)


class Encoder:
    """Sums of a film, and how often it was asked."""

    def __init__(self):
        self.films = 0

    def __call__(self, films):
        self.films += len(films)
        return np.stack([films.sum(axis=(1, 2, 3)), films.max(axis=(1, 2, 3))], axis=1)


def test_features_are_those_of_the_encoder_and_zero_where_no_film_is(tmp_path):
    cache = FeatureCache(tmp_path, {"pixels": 2}, "w")
    features = compute_features(Encoder(), prepared(10, missing={3}), cache, batch_size=4)
    expected = FILMS[:10].sum(axis=(1, 2, 3))
    expected[3] = 0
    np.testing.assert_allclose(features[:, 0], expected, rtol=1e-5)


def test_a_second_run_computes_only_what_is_new(tmp_path):
    first, second, third = Encoder(), Encoder(), Encoder()
    compute_features(first, prepared(300), FeatureCache(tmp_path, {"pixels": 2}, "w"), batch_size=50)
    compute_features(second, prepared(310), FeatureCache(tmp_path, {"pixels": 2}, "w"), batch_size=10)
    again = compute_features(third, prepared(310), FeatureCache(tmp_path, {"pixels": 2}, "w"), batch_size=10)
    assert (first.films >= 300, second.films, third.films) == (True, 10, 0)
    np.testing.assert_allclose(again[:, 0], FILMS[:310].sum(axis=(1, 2, 3)), rtol=1e-5)


def test_other_weights_or_another_preparation_share_nothing(tmp_path):
    compute_features(Encoder(), prepared(4), FeatureCache(tmp_path, {"pixels": 2}, "w"))
    for cache in (FeatureCache(tmp_path, {"pixels": 2}, "v"), FeatureCache(tmp_path, {"pixels": 3}, "w")):
        assert cache.load() == {}


def test_a_broken_shard_is_made_anew(tmp_path):
    cache = FeatureCache(tmp_path, {}, "w")
    compute_features(Encoder(), prepared(300), cache, batch_size=50)
    shards = sorted(cache.folder.glob("*.npz"))
    assert len(shards) == 2
    shards[0].write_bytes(shards[0].read_bytes()[:100])
    encoder = Encoder()
    features = compute_features(encoder, prepared(300), cache, batch_size=50)
    assert 0 < encoder.films <= 300
    np.testing.assert_allclose(features[:, 0], FILMS[:300].sum(axis=(1, 2, 3)), rtol=1e-5)
