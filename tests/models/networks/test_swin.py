"""Swin transformers: attention in windows by its definition, features by PyTorch, names of each program."""

import keras
import numpy as np
import pytest
from keras import layers

from kmm.errors import InputError
from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.networks.window_attention import SquaresOfPlaces, WindowAttention
from kmm.models.views.parts import image_encoder_of, set_trainable
from kmm.models.views.path_view import view_path
from kmm.models.weights.checkpoints import load_image_weights
from kmm.models.weights.encoder_weights import check_weights, convert_weights
from tests.factories.tiny_networks import PIXELS, TINY_ENTRIES, TINY_SWIN
from tests.factories.torch_swin import RENAMES, random_swin, run_swin
from tests.model_checks import check_path_memory, core_inputs, to_numpy

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = PIXELS["tiny-swin"]
RELATIVE = 1e-5  # of the largest feature; both sides compute in float32


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(IMAGE_ENCODERS, "tiny-swin", TINY_ENTRIES["tiny-swin"])


def attend_by_definition(x, table, *, heads, window, shift):
    """Attends, without turning the map, to the places between the same borders: those at `shift` and every window."""
    n, rows, columns, size = x.shape
    size //= 3
    query, key, value = x.reshape(n, rows * columns, 3, heads, -1).transpose(2, 0, 3, 1, 4)
    places = np.indices((rows, columns)).reshape(2, -1)
    groups = (places - shift) // window
    same = (groups[:, :, None] == groups[:, None]).all(axis=0)
    down, right = np.clip(places[:, :, None] - places[:, None] + window - 1, 0, 2 * window - 2)
    scores = query @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1])
    scores += table[down * (2 * window - 1) + right].transpose(2, 0, 1)
    weights = np.where(same, np.exp(scores), 0)
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ value).transpose(0, 2, 1, 3).reshape(n, rows, columns, size)


@pytest.mark.parametrize(("window", "shift"), [(2, 0), (2, 1), (3, 1), (3, 2), (6, 0)])
def test_attention_reads_the_places_of_a_window(window, shift):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 6, 12, 3 * 8))
    layer = WindowAttention(heads=2, window=window, shift=shift)
    layer.build(x.shape)
    table = random.normal(size=layer.table.shape)
    layer.table.assign(table)
    expected = attend_by_definition(x, table, heads=2, window=window, shift=shift)
    np.testing.assert_allclose(to_numpy(layer(x.astype("float32"))), expected, atol=2e-6)


def test_squares_are_read_by_columns():
    x = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    assert to_numpy(SquaresOfPlaces()(x))[0, 0].tolist() == [[0, 4, 1, 5], [2, 6, 3, 7]]


@pytest.mark.parametrize("pixels", [48, 24])  # with shifted windows in the last map, and with one window
def test_features_equal_the_definition_in_pytorch_under_every_name(pixels, tmp_path):
    torch = pytest.importorskip("torch")
    state = random_swin(TINY_SWIN)
    films = np.random.default_rng(5).uniform(0, 255, (2, pixels, pixels, 1)).astype("float32")
    colour = ((films / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2).astype("float32")
    with torch.no_grad():
        expected = run_swin(torch, TINY_SWIN, state, torch.tensor(colour)).flatten(1, 2).numpy()
    encoder = build_image_encoder(IMAGE_ENCODERS["tiny-swin"], pixels=pixels)
    start = encoder.get_weights()
    for name, rename in RENAMES.items():
        encoder.set_weights(start)
        path = tmp_path / f"{name}.pth"
        torch.save({key: torch.tensor(array) for key, array in rename(state).items()}, path)
        report = load_image_weights(encoder, "tiny-swin", path)
        assert len(report.extra) == 1 and report.extra[0].endswith(("head", "head.fc", "classifier")), report.extra
        found = to_numpy(encoder(films, training=False))
        assert found["sequence"].shape == expected.shape == (2, (pixels // 8) ** 2, 24)
        assert np.abs(found["sequence"] - expected).max() <= RELATIVE * np.abs(expected).max()


def test_names_and_shapes_tell_the_encoder(tmp_path):
    torch = pytest.importorskip("torch")
    for name, rename in RENAMES.items():
        path = tmp_path / f"{name}.pth"
        torch.save({key: torch.tensor(array) for key, array in rename(random_swin(TINY_SWIN)).items()}, path)
        found = check_weights(path)
        assert (found["fits"], found.get("encoder")) == (True, "tiny-swin"), found.get("reason")
    convert_weights(path, None, tmp_path / "swin.weights.h5")
    assert check_weights(tmp_path / "swin.weights.h5")["encoder"] == "tiny-swin"


def test_films_that_windows_do_not_divide_are_refused():
    with pytest.raises(InputError, match=r"'swin-tiny' takes films of a multiple of 224 pixels. Set `pixels` to 224"):
        ModelSpec(image_encoder="swin-tiny", pixels=256)
    with pytest.raises(InputError, match="`pixels` must be a multiple of 24, so that windows divide the maps"):
        build_image_encoder(IMAGE_ENCODERS["tiny-swin"], pixels=40)


def test_the_last_map_is_trained_with_the_merging_before_it():
    spec = ModelSpec(image_encoder="tiny-swin", pixels=SIDE)
    model = build_model(spec, label_count=1)
    for image, expected in (
        ("top", {"merge3", "stage3", "norm"}),
        (0.67, {"merge2", "stage2", "merge3", "stage3", "norm"}),
    ):
        set_trainable(model, spec, image=image)
        trained = {layer.name.partition("_")[0] for layer in image_encoder_of(model).layers if layer.trainable_weights}
        assert trained == expected


@pytest.mark.large
def test_the_memory_of_a_path_point_is_counted_with_its_windows():
    model = build_model(ModelSpec(image_encoder="tiny-swin", pixels=SIDE), label_count=1)
    check_path_memory(view_path(model, image_encoder=IMAGE_ENCODERS["tiny-swin"]), core_inputs(model), least=0.3)


@pytest.mark.large
@pytest.mark.parametrize(("name", "millions"), [("swin-tiny", 27.52), ("swin-base", 86.74)])
def test_the_published_sizes(name, millions):
    encoder = build_image_encoder(IMAGE_ENCODERS[name], pixels=224)
    colour = 2 * 16 * IMAGE_ENCODERS[name].network.width  # of the patches, which have one channel here
    assert encoder.count_params() + colour == pytest.approx(millions * 1e6, rel=1e-3)
    assert isinstance(encoder.get_layer("stage4_block1"), layers.Add)
    keras.utils.clear_session()
