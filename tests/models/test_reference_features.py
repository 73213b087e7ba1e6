"""Features against the programs that publish weights, with random weights that they saved; skipped without them."""

import sys
from functools import partial

import keras
import numpy as np
import pytest

from kmm.errors import MissingPackageError
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.encoders_text import TEXT_ENCODERS, build_text_encoder
from kmm.models.weights.assignment import find_normalisation
from kmm.models.weights.bert_folder import WORDS
from kmm.models.weights.bert_weights import load_text_weights
from kmm.models.weights.checkpoints import load_opened
from kmm.models.weights.encoder_weights import check_weights
from kmm.models.weights.weight_files import open_weights
from kmm.settings import FitSettings
from kmm.training.preparation.text_weights import open_text_weights
from tests.factories.bert import write_vocabulary
from tests.factories.tiny_networks import PIXELS, TINY_ENTRIES, TINY_RESNET
from tests.factories.torch_networks import random_resnet


def save_state(network, path):
    torch = pytest.importorskip("torch")
    torch.save(network.state_dict(), path)
    return path


def assert_equal(found, encoder, reference):
    assert found["fits"], found.get("reason")
    assert found["encoder"] == encoder and found["against"]["reference"].startswith(reference)
    assert found["against"]["equal"] and found["against"]["difference"] < 1e-5


@pytest.mark.large
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121", "swin_t"])
def test_torchvision(name, tmp_path):
    torchvision = pytest.importorskip("torchvision", exc_type=ImportError)
    path = save_state(getattr(torchvision.models, name)(weights=None), tmp_path / f"{name}.pth")
    assert_equal(check_weights(path, against="torchvision"), name.replace("swin_t", "swin-tiny"), "torchvision")


@pytest.mark.large
@pytest.mark.parametrize(
    ("model", "encoder"),
    [
        ("resnet18", "resnet18"),
        ("swin_tiny_patch4_window7_224", "swin-tiny"),
        ("vit_small_patch16_224", "vit-small"),
        ("vit_small_patch14_dinov2", "dinov2-small"),
        ("vit_small_patch14_reg4_dinov2", "dinov2-small"),
    ],
)
def test_timm(model, encoder, tmp_path):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    options = {"img_size": 70} if "dinov2" in model else {}
    path = save_state(timm.create_model(model, pretrained=False, **options), tmp_path / f"{model}.pth")
    assert_equal(check_weights(path, against="timm"), encoder, "timm")


@pytest.mark.large
@pytest.mark.parametrize("registers", [0, 4])
def test_transformers(registers, tmp_path):
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    kind, more = ("Dinov2WithRegisters", {"num_register_tokens": 4}) if registers else ("Dinov2", {})
    sizes = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 70, "patch_size": 14}
    config = getattr(transformers, f"{kind}Config")(num_hidden_layers=12, **sizes, **more)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path)
    assert_equal(check_weights(tmp_path, against="transformers"), "dinov2-small", "transformers")


@pytest.mark.large
@pytest.mark.parametrize(("kind", "encoder"), [("Swin", "swin-tiny"), ("ResNet", "resnet50")])
def test_networks_of_maps_of_transformers(kind, encoder, tmp_path):
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")()).save_pretrained(tmp_path)
    assert_equal(check_weights(tmp_path, against="transformers"), encoder, "transformers")


def test_a_program_that_is_missing_is_named(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(IMAGE_ENCODERS, "tiny", TINY_ENTRIES["tiny-resnet"])
    torch.save({name: torch.tensor(array) for name, array in random_resnet(TINY_RESNET).items()}, tmp_path / "x.pth")
    with pytest.raises(MissingPackageError, match=r'"timm" is needed here .* pip install "kmm\[reference\]"'):
        check_weights(tmp_path / "x.pth", "tiny", against="timm")


@pytest.fixture
def tiny(monkeypatch):
    for name, entry in TINY_ENTRIES.items():
        monkeypatch.setitem(IMAGE_ENCODERS, name, entry)


def save_tensors(network, path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for value in network.state_dict().values():  # biases and positions too, which some programs start at 0
        value.add_(0.1 * torch.randn(value.shape))
    return save_state(network.eval(), path)


def compare(path, encoder_name, compute):
    """The largest difference from features that a function computes of films, relative to the largest of these."""
    torch = pytest.importorskip("torch")
    pixels = PIXELS[encoder_name]
    keras.utils.set_random_seed(0)
    encoder = build_image_encoder(IMAGE_ENCODERS[encoder_name], pixels=pixels)
    with open_weights(path) as opened:
        load_opened(encoder, encoder_name, opened)
        kinds = find_normalisation(opened, encoder_name)
    films = np.random.default_rng(0).uniform(0, 255, (2, pixels, pixels, 1)).astype("float32")
    colour = (films / 255 - np.array(kinds.mean)) / np.array(kinds.deviation)
    with torch.no_grad():
        expected = compute(torch.tensor(colour.transpose(0, 3, 1, 2).astype("float32"))).numpy()
    found = keras.ops.convert_to_numpy(encoder(films, training=False)["sequence"])
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


SIZES = {"num_hidden_layers": 4, "num_attention_heads": 2, "hidden_size": 8, "patch_size": 8, "image_size": 32}


@pytest.mark.parametrize(
    ("kind", "more", "encoder"),
    [
        ("CLIP", {"intermediate_size": 32, "hidden_act": "quick_gelu"}, "tiny-clip"),
        ("Siglip", {"intermediate_size": 20, "hidden_act": "gelu_pytorch_tanh"}, "tiny-siglip"),
        ("ViT", {"intermediate_size": 32, "layer_norm_eps": 1e-6}, "tiny-vit"),
    ],
)
def test_towers_of_transformers(kind, more, encoder, tiny, tmp_path):
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    vision = "" if kind == "ViT" else "Vision"
    config = getattr(transformers, f"{kind}{vision}Config")(**SIZES, **more)
    network = getattr(transformers, f"{kind}{vision}Model")(config)
    save_tensors(network, tmp_path / "ignored.pth")
    network.save_pretrained(tmp_path / "saved")
    assert_equal(check_weights(tmp_path / "saved", encoder, against="transformers"), encoder, "transformers")


def test_transformers_of_torchvision(tiny, tmp_path):
    torch, torchvision = (pytest.importorskip(name, exc_type=ImportError) for name in ("torch", "torchvision"))
    network = torchvision.models.VisionTransformer(32, 8, num_layers=4, num_heads=2, hidden_dim=8, mlp_dim=32)
    path = save_tensors(network, tmp_path / "vit.pth")

    def compute(films):
        patches, first = network._process_input(films), network.class_token.expand(len(films), -1, -1)
        return network.encoder(torch.cat([first, patches], dim=1))[:, 1:]

    assert compare(path, "tiny-vit", compute) < 1e-5


def test_clip_of_timm(tiny, tmp_path):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    layers = pytest.importorskip("timm.layers")
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 8, "depth": 4, "num_heads": 2, "num_classes": 0}
    kinds = {"pre_norm": True, "act_layer": "quick_gelu", "norm_layer": partial(layers.LayerNorm, eps=1e-5)}
    network = timm.models.vision_transformer.VisionTransformer(**sizes, **kinds)
    path = save_tensors(network, tmp_path / "clip.pth")
    assert compare(path, "tiny-clip", lambda films: network.forward_features(films)[:, 1:]) < 1e-5


def test_the_tower_of_open_clip(tiny, tmp_path):
    open_clip = pytest.importorskip("open_clip", exc_type=ImportError)
    sizes = {"embed_dim": 6, "quick_gelu": True, "text_cfg": {"context_length": 5, "vocab_size": 9, "width": 8}}
    sizes["text_cfg"] |= {"heads": 2, "layers": 1}
    tower = {"image_size": 32, "layers": 4, "width": 8, "head_width": 4, "patch_size": 8, "output_tokens": True}
    network = open_clip.model.CLIP(vision_cfg=tower, **sizes)
    path = save_tensors(network, tmp_path / "open_clip.pt")
    assert compare(path, "tiny-clip", lambda films: network.visual(films)[1]) < 1e-5


@pytest.mark.parametrize(
    ("lower", "kind", "activation"),
    [(True, "BertModel", "gelu"), (False, "BertForMaskedLM", "gelu"), (True, "BertModel", "gelu_new")],
)
def test_bert_of_transformers(lower, kind, activation, tmp_path):
    torch, transformers = (pytest.importorskip(name, exc_type=ImportError) for name in ("torch", "transformers"))
    folder = tmp_path / "bert"
    folder.mkdir()
    lines = write_vocabulary(folder, lower=lower).read_text(encoding="utf-8").splitlines()
    sizes = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 20}
    config = transformers.BertConfig(vocab_size=len(lines), max_position_embeddings=64, hidden_act=activation, **sizes)
    network = getattr(transformers, kind)(config).eval()
    save_tensors(network, tmp_path / "ignored.pth")
    network.save_pretrained(folder)
    weights = open_text_weights(FitSettings(text_encoder="bert", text_weights=str(folder)))
    shape, length = weights.folder.shape, 14
    encoder = build_text_encoder(
        TEXT_ENCODERS["bert"], length=length, embedding_size=shape.width, filters=1, dropout=0.1, shape=shape
    )
    load_text_weights(encoder, weights.folder, weights.vocabulary.marks)
    counts, table = (length, 5, 1), weights.folder.read(WORDS)
    ids = np.random.default_rng(0).integers(6, len(lines), (len(counts), length))
    mask = np.arange(length) < np.array(counts)[:, None]
    rows = np.where(mask[..., None], table[ids], 0).astype("float32")
    found = keras.ops.convert_to_numpy(
        encoder({"rows": rows, "padding_mask": mask.astype("float32")}, training=False)["sequence"]
    )
    for number, count in enumerate(counts):
        marked = [lines.index("[CLS]"), *ids[number, :count], lines.index("[SEP]")]
        with torch.no_grad():
            expected = getattr(network, "bert", network)(torch.tensor([marked])).last_hidden_state[0].numpy()
        assert np.abs(found[number, : count + 2] - expected).max() <= 1e-5 * np.abs(expected).max()
