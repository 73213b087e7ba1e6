"""Options from a YAML file: for every command, below the command line and variables, checked as they are."""

import json
from pathlib import Path

import click
import pytest

from kmm.cli import main
from kmm.text.word_vectors import load_word_vectors
from tests.factories.commands import run


def walk(group):
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from walk(command)
        else:
            yield command


def write(folder, text):
    path = folder / "options.yaml"
    path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
    return path


@pytest.mark.parametrize("command", list(walk(main)), ids=lambda command: command.name)
def test_every_command_has_the_option(command):
    assert [option.is_eager for option in command.params if "--config" in option.opts] == [True]


def test_the_command_line_wins_over_variables_and_variables_over_the_file(tiny_folder, tmp_path):
    config = write(tmp_path, f"out: {tmp_path / 'v.txt'}\ndimensions: 3\nepochs: 1\ncbow: true\n")
    for options, variables, dimensions in (
        ([], {}, 3),
        ([], {"KMM_WEIGHTS_EMBED_DIMENSIONS": "4"}, 4),
        (["--dimensions", 5], {"KMM_WEIGHTS_EMBED_DIMENSIONS": "4"}, 5),
        (["--dimensions", 5], {}, 5),
    ):
        for named in (["--config", config], []):
            environment = variables if named else {**variables, "KMM_WEIGHTS_EMBED_CONFIG": str(config)}
            result = run("weights", "embed", tiny_folder, *options, *named, env=environment)
            assert result.exit_code == 0, result.stderr
            assert load_word_vectors(tmp_path / "v.txt").dimensions == dimensions


def test_names_may_have_dashes_and_lists_and_flags_mean_what_they_say(tiny_folder, tmp_path):
    config = write(tmp_path, "sections: [indication, comparison]\nepochs: 1\ndimensions: 3\ncbow: no\n")
    vectors = []
    for options in (["--config", config], ["--sections", "pre-read", "--epochs", 1, "--dimensions", 3]):
        result = run("weights", "embed", tiny_folder, "--out", tmp_path / "v.txt", *options)
        assert result.exit_code == 0, result.stderr
        vectors.append((tmp_path / "v.txt").read_bytes())
    assert vectors[0] == vectors[1]
    config = write(tmp_path, "label-min-count: 1\nlabels: findings\nshares: [0.5, 0.25, 0.25]\nfolds:\n")
    result = run("data", "split", tiny_folder, "--out", tmp_path / "split.csv", "--config", config)
    assert result.exit_code == 0 and "train 30" in result.stdout, result.output


def test_other_commands_read_it_too(tiny_folder, model, tmp_path):
    config = write(tmp_path, f"json: {tmp_path / 'answers.json'}\nstrict: true\n")
    assert run("evaluate", model, tiny_folder, "--config", config).exit_code == 0
    assert "test" in json.loads((tmp_path / "answers.json").read_text())
    (tmp_path / "broken.png").write_bytes(b"")
    result = run("predict", model, tmp_path / "broken.png", "--config", config)
    assert result.exit_code == 2 and "kmm: " in result.stderr
    config = write(tmp_path, "studies: 4\npixels: 32\nseed: 2\n")
    result = run("data", "phantom", tmp_path / "set", "--config", config, "--studies", 6)
    assert result.exit_code == 0 and "studies 6" in result.stdout


def test_the_file_of_a_fit_holds_options_and_settings(tiny_folder, tmp_path, fits):
    text = f"out: {tmp_path / 'a'}\nname: one\noverwrite: yes\ntext-encoder: none\nset: [length=9, patience=2]\n"
    text += "seed: 7\nsections: [findings]\npatience: 3\nepochs: 4\npreset: paper\nstrict: no\n"
    config = write(tmp_path, text)
    result = run("fit", tiny_folder, "--config", config)
    assert result.exit_code == 0, result.stderr
    settings = fits[-1]["settings"]
    assert (settings.seed, settings.sections, settings.preset) == (7, ("findings",), "paper")
    assert (settings.length, settings.patience, settings.joint_epochs, settings.text_encoder) == (9, 2, 4, None)
    assert (tmp_path / "a" / "one").is_dir()
    options = ["--name", "two", "--set", "seed=8", "--epochs", 2]
    result = run("fit", tiny_folder, "--config", config, *options, env={"KMM_FIT_OUT": str(tmp_path / "b")})
    assert result.exit_code == 0, result.stderr
    settings = fits[-1]["settings"]
    assert (settings.seed, settings.length, settings.patience, settings.joint_epochs) == (8, 140, 3, 2)
    assert (tmp_path / "b" / "two").is_dir()


REFUSED = {
    "colour: 1": "unknown option `colour`. Known: cbow, dimensions,",
    "folder: x": "unknown option `folder`",
    "config: x.yaml": "unknown option `config`",
    "dimensions: many": "`dimensions`: 'many' is not a valid integer",
    "dimensions: 1.5": "`dimensions`: '1.5' is not a valid integer",
    "dimensions: true": "`dimensions`: 'True' is not a valid integer",
    "dimensions: [1, 2]": "`dimensions`: expected a value. Received: list",
    "dimensions: 0": "`dimensions`: 0 is not in the range",
    "cbow: perhaps": "`cbow`: 'perhaps' is not a valid boolean",
    "out: {a: b}": "`out`: expected a value. Received: dict",
    "out: 2020-01-01": "`out`: expected a value. Received: date",
    "sections: [{a: b}]": "`sections`: expected a value. Received: dict",
    "- a\n- b": "expected `name: value` lines. Received: list",
    "words": "expected `name: value` lines. Received: str",
    "out: [": "not valid YAML or JSON in UTF-8",
    "out: !!python/object/apply:os.getcwd []": "not valid YAML or JSON in UTF-8",
    b"\xff\xfe\x00\x81": "not valid YAML or JSON in UTF-8",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_file_is_one_line_that_names_it(tiny_folder, tmp_path, text):
    config = write(tmp_path, text)
    result = run("weights", "embed", tiny_folder, "--out", tmp_path / "v.txt", "--config", config)
    assert result.exit_code == 2 and result.stdout == "" and not (tmp_path / "v.txt").exists()
    assert result.stderr.startswith(f"kmm: {config}: ") and result.stderr.count("\n") == 1
    assert REFUSED[text] in result.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour: 1", "unknown option `colour`. Known: augment, augment_brightness,"),
        ("seed: three", "Setting `seed` must be a whole number. Received: 'three'"),
        ("seed:", "Setting `seed` must be a whole number. Received: None"),
        ("preset: huge", "Unknown preset 'huge'"),
        ("epochs: 0", "Setting `epochs` must be a whole number of at least 1"),
        ("epochs: true", "Setting `epochs` must be a whole number of at least 1"),
        ("strict: perhaps", "Setting `strict` must be true or false"),
        ("resume: perhaps", "`resume`: 'perhaps' is not a valid boolean"),
    ],
)
def test_a_wrong_file_of_a_fit_is_one_line_too(tiny_folder, tmp_path, fits, text, says):
    config = write(tmp_path, text)
    result = run("fit", tiny_folder, "--out", tmp_path / "out", "--config", config)
    assert result.exit_code == 2 and not fits and not (tmp_path / "out").exists()
    assert result.stderr.startswith(f"kmm: {config}: {says}") and result.stderr.count("\n") == 1


def test_a_file_that_is_missing(tiny_folder):
    for command in (["data", "verify"], ["weights", "embed"], ["fit"]):
        result = run(*command, tiny_folder, "--config", "nowhere.yaml")
        assert result.exit_code == 2
        assert result.stderr.startswith(f"kmm: {Path('nowhere.yaml')}: expected a readable settings file")
