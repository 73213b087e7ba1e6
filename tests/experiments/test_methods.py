"""The methods paragraph and the references of a comparison."""

import re
from pathlib import Path

import pytest
import yaml

import kmm
from kmm.experiments.output.methods import describe_resampling, show_command, write_methods, write_plain_methods
from kmm.experiments.output.references import REFERENCES, list_references, write_bibtex
from tests.factories.comparison_results import make_comparison

CITATION = Path(kmm.__file__).parents[1] / "CITATION.cff"


def make_methods(write=write_methods, **changes):
    made = make_comparison()
    return write(made.comparison, made.predictions, {**made.summary, **changes})


def test_the_paragraph_has_the_figures_and_the_answer():
    text = make_methods()
    assert "on 175 studies of 88 patients with kmm [@kmm]: joint (image and text), image only, text only" in text
    assert "3 stratified splits (65 % train, 15 % validation, 20 % test)" in text
    assert "[@nadeau2003], and p values were adjusted within each family by Holm's method [@holm1979]" in text
    assert "is not shown to differ from the text model" in text
    assert "    kmm compare phantom --protocol high --out 'my comparison'" in text


@pytest.mark.parametrize("head", ["linear", "mlp", "decoder"])
def test_the_head_its_penalty_and_the_teachers_are_named(head):
    data = make_comparison().summary["data"]
    text = make_methods(data={**data, "head": head, "text_teacher": 0.6, "image_teacher": 0.0})
    assert ("Each model ends in a dense decoder." in text) == (head == "decoder")
    assert ("lower by more than one standard error" in text) == (head != "decoder")
    assert "penalty of each logistic regression on features was chosen on the validation part" in text
    assert "training labels of the text model were mixed, with a weight of 0.6, with the out-of-fold" in text
    assert "labels of the image model" not in text
    assert "ends in" not in make_methods(data={**data, "head": None})


@pytest.mark.parametrize(
    "depths, grid, said",
    [
        (1, 1, "has the means of the last feature map of the image encoder (xception)."),
        (4, 3, "has the means of 4 feature maps of the image encoder (xception) over each cell of a grid of 3 x 3."),
        (None, 3, ""),
    ],
)
def test_the_vector_of_a_film_is_described_unless_it_is_varied(depths, grid, said):
    data = {**make_comparison().summary["data"], "image_depths": depths, "image_grid": grid}
    text = make_methods(data={**data, "image_encoder": "xception"})
    assert ("The vector of a film" in text) == bool(said) and said in text
    assert "The vector of a film" not in make_methods(data={**data, "image_encoder": None})


def test_every_citation_has_its_entry_and_every_method_its_reference():
    summary = make_comparison().summary
    cited = set(re.findall(r"@(\w+)", make_methods()))
    keys = list_references(summary)
    assert cited == set(keys) == set(REFERENCES) - {"bouckaert2004", "figueroa2012"}
    entries = re.findall(r"^@\w+\{(\w+),$", write_bibtex(keys), re.MULTILINE)
    assert entries == keys


def test_only_what_was_used_is_cited():
    assert list_references({}) == ["kmm", "aydin2019"]
    folds = {"differences": [{"p_holm": None, "metric": "roc_auc"}], "resampling": {"folds": 5}}
    assert list_references(folds) == ["kmm", "aydin2019", "nadeau2003", "bouckaert2004"]


def test_the_plain_paragraph_has_authors_and_years():
    text = make_methods(write_plain_methods)
    assert "(Nadeau and Bengio, 2003)" in text and "(DeLong et al., 1988; Obuchowski, 1997)" in text
    assert "{cite:" not in text and "\n" not in text


def test_bibtex_is_balanced_and_has_authors_titles_and_years():
    for key, reference in REFERENCES.items():
        entry = write_bibtex([key])
        assert entry.count("{") == entry.count("}") and "\n  author = {" in entry
        assert f"\n  title = {{{{{reference.title}}}}}," in entry
        assert key == "kmm" or f"\n  year = {{{key[-4:]}}}," in entry


def test_kmm_is_cited_as_its_citation_file_says():
    stated = yaml.safe_load(CITATION.read_text(encoding="utf-8"))
    own = REFERENCES["kmm"]
    assert (own.title, own.fields["version"], own.fields["license"]) == (
        *(stated["title"], str(stated["version"]), stated["license"]),
    )
    assert own.fields["author"] == "{" + " and ".join(author["name"] for author in stated["authors"]) + "}"


def test_names_cannot_become_markup_or_citations():
    hostile = "<script> [x](y) *a* `b` {cite:nobody} # c"
    text = make_methods(reduced=[hostile])
    assert r"\<script\> \[x\](y) \*a\* \`b\` {cite:nobody} \# c" in text


def test_a_rebuilt_command_has_the_settings_that_were_given():
    given = {"preset": "paper", "tune": True, "settings": {"pixels": "64", "redact": "my words.txt"}}
    command = show_command({"protocol": "quick", "resampling": {"splits": 2}, "given": given})
    assert command.endswith("--splits 2 --preset paper --tune --set pixels=64 --set 'redact=my words.txt'")


def test_a_command_that_was_not_recorded_is_rebuilt():
    variants = {"a=1;b=x y": {}, "a=1;b=z": {}, "a=2;b=x y": {}, "a=2;b=z": {}}
    resampling = {"folds": 5, "repeats": 2, "splits": 0, "plain": False}
    words = "kmm compare FOLDER --out OUT --protocol low --folds 5 --repeats 2 --vary 'a=1|2' --vary 'b=x y|z'"
    assert show_command({"protocol": "low", "variants": variants, "resampling": resampling}) == words
    assert show_command({"protocol": "high", "resampling": {"splits": 3, "plain": True}}).endswith("3 --plain-split")
    assert show_command({}) == ""


@pytest.mark.parametrize(
    ("resampling", "words"),
    [
        ({"splits": 1, "plain": True, "n_train": 0.8, "n_test": 0.2}, "1 plain split"),
        ({"folds": 5, "repeats": 1, "n_train": 4, "n_test": 1}, "5-fold cross-validation"),
        ({"folds": 5, "repeats": 3}, "5-fold cross-validation, repeated 3 times"),
    ],
)
def test_resampling_in_words(resampling, words):
    assert describe_resampling(resampling) == words


@pytest.mark.parametrize("restricted", [3, 0])
def test_studies_that_a_difference_leaves_out_are_mentioned(restricted):
    differences = [{**found, "restricted": restricted} for found in make_comparison().summary["differences"]]
    text = make_methods(differences=differences)
    assert ("compared on the studies that both were measured on" in text) == bool(restricted)
