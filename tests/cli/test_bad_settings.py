"""Settings, word vectors and weights that `kmm fit` refuses."""

import pytest

from tests.factories.commands import IMAGES_ONLY, refuse


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--preset", "x"], "Unknown preset 'x'. Known: small, paper"),
        (["--image-encoder", "x"], "Unknown image encoder 'x'. Known: clip-base-16, "),
        (["--text-encoder", "x"], "Unknown text encoder 'x'. Known: text-cnn, "),
        (["--labels", "x"], "Unknown label scheme 'x'. Known: normal-abnormal, "),
        (["--sections", "x"], "`sections` must be one of report, pre-read, "),
        (["--set", "fusion=x"], "Unknown fusion 'x'. Known: concat"),
        (["--set", "cleaning=x"], "Unknown cleaning mode 'x'. Known: standard, "),
        (["--set", "threshold_policy=x"], "Unknown threshold policy 'x'. Known: "),
        (["--set", "x=1"], "Unknown setting 'x'. Known: augment, "),
        (["--set", "x"], "Expected NAME=VALUE. Received: 'x'"),
        (["--set", "length=many"], "`length` must be a whole number. Received: 'many'"),
        (["--set", "shares=1,2"], "`shares` must be three numbers"),
        (["--epochs", "0"], "`epochs` must be a whole number of at least 1"),
        (["--pixels", "8"], "pixels"),
        (["--seed", "-1"], "seed"),
        (["--image-encoder", "none", "--text-encoder", "none"], "must not both be none"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: expected a readable settings file"),
        (["--split", "nowhere.csv"], "nowhere.csv"),
        (["--redact", "nowhere.txt"], "nowhere.txt: expected a readable redaction, or `default`"),
        (["--word-pieces", "nowhere.txt"], "nowhere.txt is not a file. Give the setting `word_pieces`"),
        (["--word-vectors", "nowhere.txt"], "nowhere.txt is not a file. Give the setting `word_vectors`"),
        (["--image-weights", "nowhere.h5"], "nowhere.h5 is not a file. Give the setting `image_weights`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_name_or_value_that_is_not_known(tiny_folder, tmp_path, options, says):
    refuse("fit", tiny_folder, "--out", tmp_path, *options, says=says)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"a: [", b"- 1\n- 2", b"!!python/object/apply:os.getcwd []"])
def test_a_file_that_is_not_of_settings_is_refused(tiny_folder, tmp_path, text):
    (tmp_path / "settings.yaml").write_bytes(text)
    arguments = ["fit", tiny_folder, "--out", tmp_path / "out", "--config", tmp_path / "settings.yaml"]
    refuse(*arguments, says=("settings.yaml", "expected"))


@pytest.mark.parametrize("data", [b"", bytes(range(256)) * 9, b"2 3\nmass 1 2 3\n", b"mass 1 2\ncyst 1 nan\n"])
def test_a_file_that_is_not_of_word_vectors_is_refused(tiny_folder, tmp_path, data):
    (tmp_path / "vectors.txt").write_bytes(data)
    arguments = ["fit", tiny_folder, "--out", tmp_path / "out", "--word-vectors", tmp_path / "vectors.txt"]
    refuse(*arguments, "--image-encoder", "none", says=(str(tmp_path / "vectors.txt"), "expected word vectors"))


def test_a_redaction_with_an_endless_expression_is_refused(tiny_folder, tmp_path):
    (tmp_path / "words.txt").write_text("# label words\nnormal\n/(no )+mass/\n", encoding="utf-8")
    arguments = ["fit", tiny_folder, "--out", tmp_path / "out", "--redact", tmp_path / "words.txt"]
    refuse(*arguments, says=f"{tmp_path / 'words.txt'}, line 3: `+` has no upper bound: write {{1,30}}")


def test_a_file_that_is_not_of_word_pieces_is_refused(tiny_folder, tmp_path):
    (tmp_path / "vocab.txt").write_text("no\nmass\n", encoding="utf-8")
    arguments = ["fit", tiny_folder, "--out", tmp_path / "out", "--word-pieces", tmp_path / "vocab.txt"]
    refuse(*arguments, "--image-encoder", "none", says=(str(tmp_path / "vocab.txt"), "expected the word pieces"))


def test_weights_of_another_network(tiny_folder, tmp_path):
    import keras

    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="other")])
    path = tmp_path / "other.weights.h5"
    other.save_weights(path)
    arguments = ["fit", tiny_folder, "--out", tmp_path / "out", "--image-weights", path, *IMAGES_ONLY]
    refuse(*arguments, says=("other.weights.h5 holds weights for another network", "block1_conv is missing"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".cache"]  # prepared films, for the next try


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n damaged", b"words"])
def test_a_file_that_is_not_of_weights_is_refused(tiny_folder, tmp_path, data):
    (tmp_path / "w.h5").write_bytes(data)
    arguments = ["fit", tiny_folder, "--out", tmp_path / "out", "--image-weights", tmp_path / "w.h5", *IMAGES_ONLY]
    refuse(*arguments, says="w.h5 ")


@pytest.mark.large
def test_imagenet_weights_without_a_network_end_the_run(tiny_folder, tmp_path, monkeypatch):
    from keras.src.utils import file_utils

    def fail(name, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- [Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr(file_utils, "get_file", fail)
    arguments = ["fit", tiny_folder, "--out", tmp_path, "--preset", "paper", "--image-weights", "imagenet"]
    says = ("ImageNet weights of densenet121 could not be downloaded", "URL fetch failure", "Give a local file")
    refuse(*arguments, *IMAGES_ONLY, "--image-grid", "1", says=says)
    assert [path.name for path in tmp_path.iterdir()] == [".cache"]  # prepared films


def test_an_encoder_without_imagenet_weights(tiny_folder, tmp_path):
    arguments = ["fit", tiny_folder, "--out", tmp_path, "--image-weights", "imagenet", *IMAGES_ONLY]
    refuse(*arguments, says="Keras provides no ImageNet weights for small-cnn")
