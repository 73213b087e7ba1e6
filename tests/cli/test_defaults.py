"""What the help of a command says of defaults is what the code does: for every option of every command."""

import dataclasses
import inspect
import re

import click
import pytest

from kmm.api.similar import SimilarStudies
from kmm.cli import main
from kmm.cli.explain import AUTO
from kmm.cli.fidelity import TRIED
from kmm.client import Client
from kmm.data.phantom.dataset import make_phantom
from kmm.data.split import k_folds
from kmm.engines.runners import choose_runner
from kmm.experiments.planning.plan import make_plan
from kmm.experiments.run_comparison import compare_studies
from kmm.explain.folder.explain_folder import explain_folder
from kmm.explain.output.files import Outputs
from kmm.explain.regions.find import DISTANCE
from kmm.explain.settings import ExplainSettings, RegionSettings
from kmm.export.explanation import ExplainSignature
from kmm.export.graph.batching import Batching
from kmm.export.write import export_classifier
from kmm.retrieval.additions import build_index
from kmm.retrieval.measures.measurement import measure_index
from kmm.server.settings import ServeSettings
from kmm.settings import SECTIONS, FitSettings
from kmm.text.word_vectors import train_word_vectors
from kmm.training.pretraining.pretrain import pretrain_encoder
from tests.factories.commands import find_command, walk_commands


def defaults(function):
    """Defaults of the parameters of a function, or of the fields of a dataclass."""
    if dataclasses.is_dataclass(function):
        return {field.name: field.default for field in dataclasses.fields(function)}
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


EXPLAIN, REGIONS = defaults(ExplainSettings), defaults(RegionSettings)
REGIONS["region_rule"] = REGIONS.pop("rule")
APART = ("regions", "baselines", "method", "target", "targets")  # that are no option, or said in words
EXPLANATION = {name: value for name, value in (EXPLAIN | REGIONS).items() if name not in APART}
VECTORS, SERVED, BATCHING, PHANTOM, CLIENT = map(
    defaults, (train_word_vectors, ExplainSignature, Batching, make_phantom, Client.__init__)
)
SERVE = defaults(ServeSettings)

# Of each command the defaults of the code that its options reach, by the option's parameter.
EXPECTED = {
    "data phantom": {name: PHANTOM[name] for name in ("studies", "seed", "pixels")},
    "data summary": {"min_word_patients": FitSettings().min_word_patients},
    "data split": {"repeats": defaults(k_folds)["repeats"]},
    "weights embed": {name: VECTORS[name] for name in ("dimensions", "epochs", "seed")}
    | {"cbow": not VECTORS["skip_gram"], "min_word_patients": FitSettings().min_word_patients},
    "weights pretrain": {"temperature": defaults(pretrain_encoder)["temperature"]},
    "fit": {"out": "saved_models"},
    "compare": {"protocol": defaults(make_plan)["protocol"], "repeats": defaults(make_plan)["repeats"]}
    | {"workers": defaults(choose_runner)["count"], "predictions": defaults(compare_studies)["predictions"]}
    | {"cache": "saved_models", "explain": defaults(compare_studies)["explain"]},
    "index build": {name: defaults(build_index)[name] for name in ("layer", "label_min_count")},
    "index search": {name: defaults(SimilarStudies.search)[name] for name in ("k", "rerank", "overlap")},
    "index measure": {
        name: defaults(measure_index)[name] for name in ("k", "most", "relevant_from", "rerank", "repeats", "seed")
    }
    | {"baselines": True, "overlap": defaults(SimilarStudies.measure)["overlap"]},
    "cache list": {"out": "saved_models"},
    "cache clear": {"out": "saved_models"},
    "explain": EXPLANATION
    | {"method": EXPLAIN["method"]}
    | {"picture": defaults(Outputs)["picture"], "pages": defaults(Outputs)["page"], "dicom": defaults(Outputs)["dicom"]}
    | {"table": defaults(explain_folder)["table"], "workers": defaults(choose_runner)["count"]},
    "fidelity": EXPLANATION | {"sensitivity": AUTO, "studies": 200},
    "export": SERVED
    | {"max_batch": BATCHING["max_batch"], "batch_timeout_ms": BATCHING["timeout_ms"]}
    | {"batch_threads": BATCHING["threads"], "default": defaults(export_classifier)["default"]}
    | {"warmup": ",".join(map(str, defaults(export_classifier)["warmup"])), "kind": "savedmodel"},
    "serve": SERVE | {"rest": True, "versions": "latest"},
    "call": {"timeout": CLIENT["timeout"], "retries": CLIENT["retries"]}
    | {"concurrency": defaults(Client.predict_folder)["concurrency"]},
}


def find_options(path):
    """Options of a command by the name of their parameter, each with its default, or None."""
    context = click.Context(find_command(path))
    options = [param for param in find_command(path).params if isinstance(param, click.Option)]
    found = {option.name: (option, option.get_default(context)) for option in options}
    return {name: (option, None if _is_none(value) else value) for name, (option, value) in found.items()}


def _is_none(value):
    return value is None or value is False or value == () or type(value).__name__ == "Sentinel"


@pytest.mark.parametrize("path", list(walk_commands(main)), ids=" ".join)
def test_defaults_of_options_are_those_of_the_code(path):
    expected = EXPECTED.get(" ".join(path), {})
    options = find_options(path)
    assert set(expected) <= set(options)
    for name, (_, default) in options.items():
        of_code = expected.get(name)
        assert default == (None if of_code is False or of_code == () else of_code), name


@pytest.mark.parametrize("path", list(walk_commands(main)), ids=" ".join)
def test_help_states_every_default(path):
    context = click.Context(find_command(path))
    for name, (option, default) in find_options(path).items():
        said = option.get_help_record(context)[1]
        shown = option.opts[0].removeprefix("--") if default is True else default
        assert ("[default: " in said) == (default is not None), name
        assert default is None or re.search(rf"\[default: {re.escape(str(shown))}[;\]]", said), name


def test_what_help_says_in_words_of_defaults_is_so():
    words = {name: option.help for name, (option, _) in find_options(("explain",)).items()}
    assert f"{EXPLAIN['baselines'][0]} (default)" in words["baselines"] and len(EXPLAIN["baselines"]) == 1
    assert REGIONS["distance"] is None and f"{DISTANCE:.1%} of its diagonal".replace("%", " %") in words["distance"]
    assert len(TRIED) > 1 and "Several when not given" in find_options(("fidelity",))["methods"][0].help
    assert (
        len(SECTIONS) == 4
        and "all four sections when not given" in find_options(("weights", "embed"))["sections"][0].help
    )
