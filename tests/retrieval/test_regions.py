"""The vector of a region: of the places inside a circle; of the whole film it is that of the film."""

import numpy as np
import pytest
from PIL import Image

from kmm.data.study import Collection, ImageFile, Report, Study
from kmm.errors import InputError
from kmm.image.prepare import ImagePreparation
from kmm.models.build import ModelSpec, build_model
from kmm.models.views.feature_view import view_encoder
from kmm.models.views.parts import image_encoder_of
from kmm.retrieval.additions import build_index
from kmm.retrieval.queries import QueryReader
from kmm.retrieval.regions import choose_pool, encode_region, find_centres

PREPARATION = ImagePreparation(pixels=64)


@pytest.fixture(scope="module")
def model():
    spec = ModelSpec(image_encoder="small-cnn", pixels=64)
    return build_model(spec, label_count=1)


@pytest.fixture(scope="module")
def film():
    return np.random.default_rng(0).uniform(0, 255, (100, 200)).astype(np.float32)


def test_a_circle_around_the_film_gives_the_vector_of_the_film(model, film):
    image = PREPARATION.apply(film)[None]
    vector = view_encoder(model, "image", ("vector",)).predict_on_batch({"image": image})["vector"]
    found = encode_region(model, image, PREPARATION.mapping(film.shape), (100, 50, 1000))
    assert np.allclose(found, vector, atol=1e-5)


def test_a_circle_takes_the_places_whose_centres_are_inside(model, film):
    image, mapping = PREPARATION.apply(film)[None], PREPARATION.mapping(film.shape)
    parts = view_encoder(model, "image", ("sequence",)).predict_on_batch({"image": image})
    places = np.asarray(parts["sequence"])[0].reshape(4, 4, -1)  # 16 x 16 pixels of the square, 50 x 50 of the film
    found = encode_region(model, image, mapping, (24.5, 24.5, 5))
    centre = mapping.to_original([[7.5, 23.5]])[0]  # row 1, column 0: the film begins at row 16
    assert centre.tolist() == [24.5, 24.5]
    assert np.allclose(found[0], np.tile(places[1, 0], 2), atol=1e-5)  # of one place maximum and mean are equal
    two = encode_region(model, image, mapping, (49.5, 24.5, 25.5))
    expected = [places[1, :2].max(axis=0), places[1, :2].mean(axis=0)]
    assert np.allclose(two[0], np.concatenate(expected), atol=1e-5)
    nearest = encode_region(model, image, mapping, (24.5, 26, 0.5))
    assert np.allclose(nearest, found)  # no centre is inside: the nearest one


def test_centres_are_those_of_the_cells(model):
    centres = find_centres(image_encoder_of(model), 16, (64, 64))
    assert centres[:5].tolist() == [[7.5, 7.5], [23.5, 7.5], [39.5, 7.5], [55.5, 7.5], [7.5, 23.5]]


def test_vectors_of_several_depths_and_cells_have_no_region(film):
    spec = ModelSpec(image_encoder="small-cnn", pixels=64, image_depths=2, image_grid=2)
    built = build_model(spec, label_count=1)
    with pytest.raises(InputError, match="region needs"):
        encode_region(built, PREPARATION.apply(film)[None], PREPARATION.mapping(film.shape), (100, 50, 20))


def test_vectors_that_are_no_pool_are_refused():
    with pytest.raises(InputError, match="region needs"):
        choose_pool(np.eye(3), np.array([9.0, 0, 0]))


def test_a_query_of_a_region_has_its_vector(hand_made, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 255, (32, 32), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "film.png")
    study = Study("film", "patient", (ImageFile(tmp_path / "film.png", "frontal"),), Report(findings="A mass."))
    other = Study("other", "other", report=Report(findings="No mass."))
    index = build_index(hand_made, Collection(tmp_path, "made in a test", (study, other)), tmp_path / "index").index
    reader = QueryReader(hand_made, index)
    whole, *regions = (reader.read(study, pattern="image", region=one) for one in (None, (8, 8, 99), (8, 8, 6)))
    assert np.allclose(regions[0].vector, whole.vector, atol=1e-5) and regions[1].pattern == "image"
    assert not np.allclose(regions[1].vector, whole.vector, atol=1e-3)
    assert regions[1].hashes.tolist() == index.hashes[0].tolist()  # so it never finds its own film
    for circle in ((40, 8, 6), (8, 8, 0)):
        with pytest.raises(InputError, match="32 x 32"):
            reader.read(study, region=circle)
    with pytest.raises(InputError, match="needs a film"):
        reader.read(other, region=(8, 8, 6))
