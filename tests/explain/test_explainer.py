"""Studies to explanations, with small classifiers of random weights."""

import dataclasses
import itertools
import re

import keras
import numpy as np
import pytest
from PIL import Image

from kmm import explain as room
from kmm.data.study import ImageFile, Report, Study
from kmm.errors import ImageError, InputError, ReportError
from kmm.explain.attribution import method_model
from kmm.explain.attribution import split_model as model_cut
from kmm.explain.attribution.methods import METHODS, Method, make_baseline
from kmm.explain.attribution.result import Attribution
from kmm.explain.attribution.split_model import choose_chunk
from kmm.explain.explainer import Explainer
from kmm.explain.output.index import render_index
from kmm.explain.output.page import render_page
from kmm.explain.output.pictures import caption_picture
from kmm.explain.output.table import describe_explanation
from kmm.explain.settings import ExplainSettings, RegionSettings
from kmm.explain.words import sum_words, warn_of_cut
from kmm.image.decoding import AHEAD
from kmm.storage.classifier_folder import digest_file
from tests.factories.dicom import encode, make_dataset

FEW = ExplainSettings(steps=4)
ONE_LINE = r"^[^\n]+$"
ON_ANY = [name for name, method in METHODS.items() if not method.at_attention]  # methods for a model of any layers


@pytest.fixture(scope="module")
def explainer(hand_made):
    return Explainer(hand_made)


@pytest.fixture(scope="module")
def few(hand_made):
    return Explainer(hand_made, FEW)


@pytest.fixture(scope="module")
def found(explainer, studies):
    return explain(explainer, studies)


def explain(explainer, studies, set_aside=None):
    """Explanations by the id of their study."""
    return {explanation.study: explanation for explanation in explainer.explain(studies, set_aside)}


def closeness(one, other):
    """The largest difference of two attributions, relative to the largest value."""
    largest = max(np.abs(value).max() for value in one.values.values())
    return max(np.abs(one.values[name] - other.values[name]).max() for name in one.values) / largest


def test_the_scores_are_those_of_a_prediction(found, hand_made, studies):
    predictions = hand_made.predict(studies)
    probabilities = hand_made.probabilities(predictions.logits["joint"], predictions.present)
    for study, logits, expected in zip(predictions.studies, predictions.logits["joint"], probabilities):
        one = found[study.id]
        np.testing.assert_allclose(one.attribution.scores, logits, atol=1e-5)
        np.testing.assert_allclose(list(one.probabilities.values()), expected, atol=1e-5)
        assert one.attribution.score == one.attribution.scores[one.attribution.target]
        assert list(one.probabilities) == list(one.thresholds) == list(hand_made.label_names)


def test_probabilities_are_explained_by_the_numbers_of_what_a_study_holds(hand_made, studies):
    predictions = hand_made.predict(studies)
    assert {tuple(row) for row in predictions.present} == {(1, 1), (1, 0), (0, 1)}
    expected = hand_made.probabilities(predictions.logits["joint"], predictions.present)
    settings = dataclasses.replace(FEW, output="probability")
    found = explain(Explainer(hand_made, settings), studies)
    for study, row, present in zip(predictions.studies, expected, predictions.present):
        one = found[study.id]
        np.testing.assert_allclose(list(one.probabilities.values()), row, atol=1e-5)
        assert list(one.thresholds.values()) == hand_made.thresholds_for([present])[0].tolist()


def test_the_target_is_the_most_probable_label_and_not_the_highest_logit(found):
    for one in found.values():
        assert one.target == max(one.probabilities, key=one.probabilities.get)
    assert any(one.attribution.target != one.attribution.scores.argmax() for one in found.values())


def test_the_target_that_is_asked_for(hand_made, studies):
    one = next(Explainer(hand_made, dataclasses.replace(FEW, target="effusion")).explain(studies[:1]))
    assert one.target == "effusion" and one.attribution.score == one.attribution.scores[1]
    with pytest.raises(
        InputError, match=r"^`target` must be a label of the model: mass, effusion, cyst. Received: x.$"
    ):
        Explainer(hand_made, ExplainSettings(target="x"))


@pytest.mark.large
def test_several_labels_of_a_study_are_explained_as_one_by_one(build_classifier, studies, monkeypatch):
    classifier = build_classifier()
    classifier.thresholds["joint"][:] = (0.0, 1.01, 0.0)
    alone = {
        label: {study.id: room.explain(classifier, study, dataclasses.replace(FEW, target=label)) for study in studies}
        for label in classifier.label_names
    }
    read, film = [], classifier.batches.film
    monkeypatch.setattr(classifier.batches, "film", lambda study: read.append(study.id) or film(study))
    asked = {
        ("all",): ["mass", "effusion", "cyst"],
        ("positive",): ["mass", "cyst"],
        ("cyst", "mass"): ["mass", "cyst"],
    }
    for targets, labels in asked.items():
        read.clear()
        several = Explainer(classifier, dataclasses.replace(FEW, targets=targets))
        done = dict(several.explain_studies(studies))
        assert sorted(read) == sorted(done) == sorted(study.id for study in studies)  # a film is read once
        for study, ones in done.items():
            assert [one.target for one in ones] == labels
            for one in ones:
                assert closeness(one.attribution, alone[one.target][study].attribution) < 1e-5
                assert one.settings == dataclasses.replace(FEW, targets=targets, target=one.target)
    assert len(list(several.explain(studies))) == 2 * len(studies)
    classifier.thresholds["joint"][:] = 1.01
    problems = []
    assert (
        explain(Explainer(classifier, dataclasses.replace(FEW, targets=("positive",))), studies, problems.append) == {}
    )
    assert len(problems) == len(studies) and "no label is positive" in str(problems[0])
    for label in ("all", "positive"):  # a label of that name goes first
        named = build_classifier(labels=("mass", label))
        assert next(Explainer(named, dataclasses.replace(FEW, targets=(label,))).explain(studies[:1])).target == label
    with pytest.raises(InputError, match="Received: lump"):
        Explainer(classifier, ExplainSettings(targets=("mass", "lump")))


@pytest.mark.large
def test_explaining_in_a_loop_cuts_and_traces_the_model_once(build_classifier, studies, monkeypatch):
    classifier, cuts, cut = build_classifier(), [], method_model.cut_model
    monkeypatch.setattr(method_model, "cut_model", lambda *given: cuts.append(given) or cut(*given))
    settings = [FEW, dataclasses.replace(FEW, target="cyst"), dataclasses.replace(FEW, regions=RegionSettings(0.3))]
    looped = [[room.explain(classifier, study, one) for one in settings] for study in studies[:2]]
    assert len(cuts) == 1
    expected = [list(Explainer(classifier, one).explain(studies[:2])) for one in settings]
    for row, column in itertools.product(range(2), range(3)):
        found, wanted = looped[row][column], expected[column][row]
        assert closeness(found.attribution, wanted.attribution) < 1e-5 and found.target == wanted.target
        assert found.regions == wanted.regions and found.settings == settings[column]
    with pytest.raises(InputError, match="`sensitivity` must be in"):
        room.explain(classifier, studies[0], dataclasses.replace(FEW, regions=RegionSettings(7)))
    for weight in classifier.models["joint"].weights:
        weight.assign(weight * 1.1)
    changed = room.explain(classifier, studies[0], FEW)
    assert closeness(changed.attribution, next(Explainer(classifier, FEW).explain(studies[:1])).attribution) < 1e-5
    classifier.temperatures["joint"] = classifier.temperatures["joint"] * 2
    warm = room.explain(classifier, studies[0], dataclasses.replace(FEW, output="probability"))
    assert warm.attribution.score == pytest.approx(warm.probabilities[warm.target])


def test_values_sum_to_the_difference_of_scores(found):
    for one in found.values():
        values, difference = one.attribution.values, one.attribution.score - one.attribution.baseline_score
        size = sum(np.abs(value).sum() for value in values.values())
        assert abs(sum(value.sum(dtype=np.float64) for value in values.values()) - difference) < 0.01 * size
        assert one.attribution.completeness_gap < 0.01 or one.warnings
        assert one.warnings == (*one.attribution.warnings, *warn_of_cut(one.words))


def test_shares_sum_to_one(found):
    for one in found.values():
        assert sum(one.modality_share.values()) == pytest.approx(1)
        assert sum(word.share for word in one.words) == pytest.approx(1 if one.text else 0)
        signed = sum(signed for _, signed in sum_words(one.words, "sentence").values())
        assert signed == pytest.approx(one.attribution.values["rows"].sum() if one.text else 0, abs=1e-6)
        assert sum(region.weight for region in one.regions) <= 1 + 1e-6


def test_words_of_json_index_the_report(found, studies):
    for study in studies:
        one = found[study.id].as_dict()
        report = study.report.text() if study.report else ""
        assert found[study.id].text == report
        assert [report[word["start"] : word["end"]] for word in one["words"]] == [word["text"] for word in one["words"]]
        assert bool(one["words"]) == bool(report)


def test_words_beyond_the_length_and_outside_the_vocabulary_are_marked(found):
    words = found["40x90"].words
    assert [word.text for word in words if word.seen] == ["No", "effusion", "no", "cyst", "mass"]
    read = [word for word in words if word.share]
    assert len(read) == 12 and read == words[:12] and "heart" in [word.text for word in words[12:]]
    assert [word.cut for word in words] == [not word.read for word in words]


def test_a_report_that_was_cut_carries_a_warning_and_is_counted(found):
    one = found["40x90"]
    said = f"{len(one.words) - 12} of {len(one.words)} words were not read: the report is longer than the model reads"
    assert said in one.warnings and said in one.as_dict()["warnings"]
    row = describe_explanation(one)
    assert said in row["warnings"] and (row["words"], row["words_read"]) == (len(one.words), 12)
    assert said in render_page(one) and said in render_index([row])
    picture = [text for text, _ in caption_picture(one.target, 0.5, 0.5, warnings=one.warnings)]
    assert f"Warning: {said}." in picture
    for other in found.values():
        row = describe_explanation(other)
        cut = len(other.words) > 12
        assert cut == any("not read" in warning for warning in other.warnings)
        assert row["words_read"] == min(row["words"], 12) == sum(word.read for word in other.words)


def test_a_report_cut_at_its_start_keeps_its_last_words(build_classifier, studies):
    classifier = build_classifier(truncate="start")
    words = next(Explainer(classifier, FEW).explain([studies[1]])).words
    assert [word for word in words if word.share] == words[-12:]
    assert all(not word.seen for word in words[:-12]) and words[-12].text == "of"
    assert [word.cut for word in words] == [True] * (len(words) - 12) + [False] * 12


def test_an_image_alone_and_a_report_alone(found):
    image, words = found["100x50"], found["words"]
    assert image.modality_share == {"image": 1, "text": 0} and not image.attribution.values["rows"].any()
    assert image.words == [] and image.sections == [] and image.regions
    assert words.modality_share == {"image": 0, "text": 1} and not words.attribution.values["image"].any()
    assert words.film is words.heat is words.image is None and words.regions == []


@pytest.mark.parametrize("method", [name for name in ON_ANY if "rows" in METHODS[name].inputs])
def test_nothing_is_said_of_a_side_that_is_absent(hand_made, studies, method):
    explained = explain(Explainer(hand_made, ExplainSettings(method=method, steps=4)), studies[2:])
    assert not explained["100x50"].attribution.values["rows"].any() and explained["100x50"].regions
    assert not explained["words"].attribution.values["image"].any() and explained["words"].words[0].share


@pytest.mark.parametrize("method", ["integrated-gradients", "gradient", "smoothgrad", "grad-cam", "score-cam"])
def test_no_method_says_anything_of_the_bars_beside_a_film(hand_made, studies, method):
    settings = ExplainSettings(method=method, steps=2, baselines=("grey",))
    for explanation in Explainer(hand_made, settings).explain(studies[1:3]):
        square = explanation.attribution.values["image"].sum(axis=-1)
        top, left, height, width = hand_made.batches.image.find_box(explanation.film.shape)
        on_film = square[top : top + height, left : left + width].copy()
        square[top : top + height, left : left + width] = 0
        assert not square.any() and np.array_equal(on_film, explanation.heat)
        assert method.endswith("cam") or on_film.any()  # of random weights, a map of class activations may be all 0


BLOCK = 8  # pixels


def occlude(model, settings):
    """Occlusion: what the score loses when a block of the film becomes the baseline.

    Source: https://arxiv.org/abs/1311.2901
    """

    def attribute(cases):
        for number, case in enumerate(cases):
            baseline = make_baseline(case, settings.baselines[0], settings.text_baseline)["image"]
            scores, values = model.integrator.score(*stack(case.inputs, case.fixed))[0], np.zeros_like(baseline)
            for row, column in np.ndindex(len(values) // BLOCK, len(values) // BLOCK):
                place = np.s_[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]
                hidden = case.inputs["image"].copy()
                hidden[place] = baseline[place]
                left = model.integrator.score(*stack({**case.inputs, "image": hidden}, case.fixed))[0]
                values[place] = (scores[case.target] - left[case.target]) / BLOCK**2
            yield (
                number,
                Attribution({"image": values}, case.target, float(scores[case.target]), scores, map_error=0.5),
            )

    return attribute


def stack(*dicts):
    """The values of each dict twice, as a batch of two."""
    return [{name: np.stack([value, value]) for name, value in values.items()} for values in dicts]


def test_an_occlusion_method_is_one_entry(hand_made, studies, monkeypatch, build_classifier):
    monkeypatch.setitem(METHODS, "occlusion", Method(occlude, "https://arxiv.org/abs/1311.2901", inputs=("image",)))
    settings = ExplainSettings(method="occlusion", baselines=("grey",), target="cyst")
    found = next(Explainer(hand_made, settings).explain(studies[:1]))
    batch = hand_made.batches
    film, ids = batch.image.apply(batch.film(studies[0])), batch.token_ids(studies[0])
    hidden = film.copy()
    hidden[8:16, 24:32] = 127.5
    logits = hand_made.models["joint"].predict_on_batch(
        {"image": np.stack([film, hidden]), "token_ids": np.stack([ids, ids]), "present": np.ones((2, 2), np.float32)}
    )[:, 2]
    assert found.attribution.values["image"][8:16, 24:32].sum() == pytest.approx(logits[0] - logits[1], abs=1e-4)
    assert abs(logits[0] - logits[1]) > 1e-3 and found.settings.method == "occlusion"
    assert found.regions and not any(word.share for word in found.words)
    assert np.isnan(found.attribution.map_error)  # the entry says that the method knows none
    with pytest.raises(InputError, match=r"^Method 'occlusion' explains films. Received: a model of reports alone.$"):
        Explainer(build_classifier(image=None), settings)


def test_a_method_of_words_alone_needs_a_model_that_reads_words(build_classifier, monkeypatch):
    entry = Method(lambda model, settings: None, "https://arxiv.org/abs/2004.10102", inputs=("rows",))
    monkeypatch.setitem(METHODS, "attention", entry)
    with pytest.raises(InputError, match=r"^Method 'attention' explains reports. Received: a model of films alone.$"):
        Explainer(build_classifier(text=None), ExplainSettings(method="attention"))


@pytest.mark.large
@pytest.mark.parametrize("method", ON_ANY)
def test_a_method_tells_the_errors_that_its_entry_names_and_no_other(hand_made, studies, method):
    found = next(Explainer(hand_made, ExplainSettings(method=method, steps=4)).explain(studies[:1])).attribution
    told = {name for name in ("completeness_gap", "map_error") if np.isfinite(getattr(found, name))}
    assert told == set(METHODS[method].errors)


def test_an_empty_report_is_as_none(few, studies):
    for report in (Report(), Report(findings="...  !"), None):
        one = next(few.explain([dataclasses.replace(studies[0], report=report)]))
        assert one.words == [] and one.modality_share == {"image": 1, "text": 0}


def broken_studies(folder, films):
    """Studies that cannot be used, by what is wrong with each, and what must be said."""
    black, grey, damaged = folder / "black.png", folder / "grey.png", folder / "damaged.png"
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(black)
    Image.fromarray(np.full((40, 40), 90, np.uint8)).save(grey)
    damaged.write_bytes(films["48x48"].read_bytes()[:200])
    nan = folder / "nan.tif"
    Image.fromarray(np.full((40, 40), np.nan, np.float32)).save(nan)
    said = {
        black: "Every pixel is black",
        grey: "Every pixel is the same gray",
        damaged: "truncated or damaged",
        nan: "expected gray or RGB of 8 to 16 bits",
        folder / "missing.png": "No such file",
    }
    made = [
        (Study(path.stem, "p", (ImageFile(path, "frontal"),), Report("Mass.")), text) for path, text in said.items()
    ]
    made.append((Study("nothing", "p"), "a frontal image or a report with words. Found neither"))
    made.append((Study("lateral", "p", (ImageFile(films["48x48"], "lateral"),)), "Found neither"))
    made.append(
        (Study("long", "p", report=Report("mass " * 200_001)), "expected a report of at most|must have at most")
    )
    return made


@pytest.fixture
def in_threads(monkeypatch):
    """Decodes every film in threads, as large ones are."""
    monkeypatch.setattr("kmm.image.decoding.LARGE_BYTES", 1)
    monkeypatch.setattr("kmm.image.decoding.count_threads", lambda: 3)


def test_films_decoded_in_threads_are_explained_alike(few, studies, request):
    given = [dataclasses.replace(study, id=f"{study.id} {copy}") for copy in range(5) for study in studies]
    before = explain(few, given)
    request.getfixturevalue("in_threads")
    after = explain(few, given)
    assert list(after) == list(before)
    for name, explanation in after.items():
        assert closeness(explanation.attribution, before[name].attribution) < 1e-6
        np.testing.assert_array_equal(explanation.film, before[name].film)


@pytest.mark.parametrize("threaded", [False, True])
def test_bad_studies_are_set_aside_with_a_line_and_the_rest_is_done(few, studies, films, tmp_path, threaded, request):
    if threaded:
        request.getfixturevalue("in_threads")
    bad, problems = broken_studies(tmp_path, films), []
    mixed = [study for pair in zip([study for study, _ in bad], [*studies, *studies]) for study in pair]
    done = [explanation.study for explanation in few.explain(mixed, problems.append)]
    assert sorted(done) == sorted(study.id for study in mixed[1::2])
    assert [problem.source for problem in problems] == [f"study {study.id}" for study, _ in bad]
    for problem, (study, text) in zip(problems, bad):
        assert "\n" not in str(problem) and "mass" not in str(problem).lower()
        with pytest.raises((ImageError, ReportError), match=text) as caught:
            list(few.explain([study]))
        assert str(caught.value) == f"study {study.id}: {problem.reason}"


@pytest.mark.large
@pytest.mark.parametrize("method", ["integrated-gradients", "gradient", "gradient-x-input"])
def test_studies_with_scores_that_are_not_finite_are_set_aside(build_classifier, studies, method):
    classifier, problems = build_classifier(), []
    explainer = Explainer(classifier, dataclasses.replace(FEW, method=method))
    rows = explainer.cases.embed.weights[0]
    table = np.array(rows)
    table[classifier.batches.vocabulary.encode(["cyst"], length=1)[0]] = 3e38
    rows.assign(table)  # a word that overflows
    done = explain(explainer, studies, problems.append)
    assert set(done) == {"48x48", "100x50"}
    assert {str(problem) for problem in problems} == {
        f"study {name}: expected finite scores and gradients. Received NaN or infinity." for name in ("40x90", "words")
    }
    for name, one in done.items():
        alone = next(explainer.explain([study for study in studies if study.id == name]))
        assert closeness(one.attribution, alone.attribution) < 1e-5
    with pytest.raises(InputError, match=r"^study 40x90: expected finite scores and gradients"):
        list(explainer.explain(studies[:2]))


def test_no_studies_give_no_explanations(few):
    assert list(few.explain([])) == []


@pytest.mark.large
@pytest.mark.parametrize("settings", [ExplainSettings(), FEW], ids=["refined", "fixed"])
def test_an_explanation_does_not_depend_on_the_other_studies(hand_made, studies, settings):
    explainer = Explainer(hand_made, settings)
    together = explain(explainer, [*studies, *(dataclasses.replace(study, id=f"{study.id}-2") for study in studies)])
    for study in studies:
        alone = next(explainer.explain([study]))
        for beside in (together[study.id], together[f"{study.id}-2"]):
            assert closeness(alone.attribution, beside.attribution) < 1e-5
            assert alone.attribution.steps == beside.attribution.steps
            assert [region.x for region in alone.regions] == pytest.approx([region.x for region in beside.regions])


@pytest.mark.large
def test_a_frozen_graph_gives_equal_results(few, hand_made, studies):
    free, frozen = explain(few, studies), explain(Explainer(hand_made, FEW, freeze=True), studies)
    found = [closeness(free[study.id].attribution, frozen[study.id].attribution) for study in studies]
    # Rounding may choose the other of two nearly equal values of a pooling window, at one of the four points of a path.
    assert np.median(found) < 1e-5 and max(found) < 1e-2


def test_probability_is_explained_on_its_own_scale(hand_made, studies, found):
    for one in Explainer(hand_made, ExplainSettings(output="probability")).explain(studies):
        attribution = one.attribution
        assert 0 <= attribution.baseline_score <= 1 and 0 <= attribution.score <= 1
        assert attribution.score == pytest.approx(one.probabilities[one.target], abs=1e-6)
        assert one.probabilities == pytest.approx(found[one.study].probabilities, abs=1e-6)
        total = sum(value.sum(dtype=np.float64) for value in attribution.values.values())
        assert total == pytest.approx(attribution.score - attribution.baseline_score, abs=1e-3)
        assert one.target == found[one.study].target


@pytest.mark.large
def test_several_baselines_are_averaged(hand_made, studies):
    explained = {
        names: next(Explainer(hand_made, dataclasses.replace(FEW, baselines=names)).explain(studies[:1]))
        for names in (("black",), ("mean",), ("black", "mean"))
    }
    black, mean, both = (one.attribution for one in explained.values())
    average = {name: (black.values[name] + mean.values[name]) / 2 for name in both.values}
    assert closeness(both, dataclasses.replace(both, values=average)) < 1e-5
    assert both.baseline_score == pytest.approx((black.baseline_score + mean.baseline_score) / 2)
    assert both.steps == 8 and both.score == black.score


@pytest.mark.parametrize(
    "settings",
    [
        ExplainSettings(method="lime"),
        ExplainSettings(rule="simpson"),
        ExplainSettings(steps=0),
        ExplainSettings(baselines=("white",)),
        ExplainSettings(text_baseline="none"),
        ExplainSettings(regions=RegionSettings(rule="best")),
        ExplainSettings(regions=RegionSettings(sensitivity=2)),
        ExplainSettings(memory_gb=1),
    ],
    ids=str,
)
def test_bad_settings_are_refused_before_any_work(hand_made, settings):
    with pytest.raises(InputError, match=ONE_LINE):
        Explainer(hand_made, settings)


def test_the_mean_of_the_training_films_must_be_there(build_classifier):
    with pytest.raises(InputError, match=r"^The baseline `mean` needs the mean of the training films[^\n]*$"):
        Explainer(build_classifier(mean=False), ExplainSettings(baselines=("black", "mean")))


def test_a_model_of_films_alone(build_classifier, studies):
    problems = []
    done = explain(Explainer(build_classifier(text=None, labels=("mass",)), FEW), studies, problems.append)
    assert set(done) == {"48x48", "40x90", "100x50"}
    for one in done.values():
        assert set(one.attribution.values) == {"image"} and one.modality_share == {"image": 1, "text": 0}
        assert one.target == "mass" and one.text == "" and one.words == one.sections == []
    assert [str(problem) for problem in problems] == ["study words: expected a frontal image. Found none."]


def test_a_model_of_reports_alone_opens_no_film(build_classifier, studies, tmp_path):
    missing = Study("missing", "p", (ImageFile(tmp_path / "missing.png", "frontal"),), Report(findings="No mass."))
    problems, classifier = [], build_classifier(image=None)
    done = explain(Explainer(classifier, FEW), [*studies, missing], problems.append)
    assert set(done) == {"48x48", "40x90", "words", "missing"}
    for one in done.values():
        assert set(one.attribution.values) == {"rows"} and one.modality_share == {"image": 0, "text": 1}
        assert one.film is one.heat is one.image is None and one.regions == []
    assert [str(problem) for problem in problems] == ["study 100x50: expected a report with words. Found none."]
    with pytest.raises(InputError, match=r"^Method 'grad-cam' explains films. Received: a model of reports alone.$"):
        Explainer(classifier, ExplainSettings(method="grad-cam"))


@pytest.mark.parametrize("text", ["text-cnn", "text-cnn-paper"])
@pytest.mark.parametrize("freeze", [False, True])
def test_a_network_of_reports_of_either_kind_may_be_frozen(build_classifier, studies, text, freeze):
    explainer = Explainer(build_classifier(image=None, text=text), FEW, freeze=freeze)
    assert next(explainer.explain(studies[:1])).words[0].share > 0


@pytest.mark.large
def test_a_model_of_half_precision_is_explained(build_classifier, studies):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = build_classifier()
    finally:
        keras.config.set_dtype_policy("float32")
    for one in Explainer(half, dataclasses.replace(FEW, steps=16)).explain(studies):
        values = one.attribution.values
        assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in values.values())
        size = sum(np.abs(value).sum() for value in values.values())
        difference = one.attribution.score - one.attribution.baseline_score
        assert abs(sum(value.sum() for value in values.values()) - difference) < 0.1 * size  # 8 bits of mantissa


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_regions_lie_where_the_film_is_bright(hand_made, studies, monkeypatch, fit):
    """Where the map is the prepared film itself, less its ground, the one circle is the disk, in pixels of the film."""
    image = dataclasses.replace(hand_made.batches.image, fit=fit)
    monkeypatch.setattr(hand_made.batches, "image", image)
    settings = ExplainSettings(regions=RegionSettings(sensitivity=0, smoothing=0, distance=1.5))
    explainer = Explainer(hand_made, settings)

    def attribute(cases):
        for number, case in enumerate(cases):
            values = {"image": np.maximum(case.inputs["image"] - 110, 0), "rows": 0 * case.inputs["rows"]}
            yield number, Attribution(values, target=0, score=0.0, scores=np.zeros(3))

    explainer.attribute = attribute
    for one in explainer.explain(studies[:3]):
        height, width = map(int, one.study.split("x"))
        assert one.film.shape == (height, width) and one.film.dtype == np.uint8
        box = {"letterbox": (round(32 * height / max(height, width)), round(32 * width / max(height, width)))}
        assert one.heat.shape == box.get(fit, (32, 32))
        region = one.regions[0]
        pixel = np.hypot(height / one.heat.shape[0], width / one.heat.shape[1])  # of the map, on the film
        assert np.hypot(region.x - 0.7 * width, region.y - 0.3 * height) < 0.5 * pixel
        assert abs(region.radius - 6) < pixel and region.weight > 0.95


def test_regions_lie_within_the_film(found, films):
    for name in films:
        one = found[name]
        height, width = map(int, name.split("x"))
        assert one.regions and one.heat.dtype == np.float32
        for region in one.regions:
            assert 0 <= region.x <= width - 1 and 0 <= region.y <= height - 1 and 0 < region.weight <= 1


def test_the_film_is_read_as_it_is(found, films):
    for name, path in films.items():
        np.testing.assert_array_equal(found[name].film, np.asarray(Image.open(path)))
        assert found[name].image == str(path)


def test_a_saved_classifier_is_explained_alike_under_its_digest(hand_made, few, studies, tmp_path):
    hand_made.save(tmp_path / "saved")
    loaded = Explainer.load(tmp_path / "saved", FEW)
    one, other = next(few.explain(studies)), next(loaded.explain(studies))
    assert closeness(one.attribution, other.attribution) < 1e-5
    assert other.model == digest_file(tmp_path / "saved" / "classifier.json") and one.model == ""


def test_the_chunk_follows_from_the_memory(hand_made):
    model = hand_made.models["joint"]
    with pytest.raises(InputError, match=ONE_LINE) as said:
        choose_chunk(model, 1)
    least = float(re.search(r"at least ([\d.]+) for", str(said.value))[1])
    chunks = [choose_chunk(model, gigabytes) for gigabytes in (least, 3, 1000)]
    assert chunks == sorted(chunks) and chunks[0] >= 1 and chunks[-1] == 64
    with pytest.raises(InputError):
        choose_chunk(model, least - 0.1)


@pytest.mark.large
def test_the_chunk_is_the_same_whatever_the_process_holds(hand_made):
    limits = np.linspace(1.2545, 1.32, 30)
    before = [choose_chunk(hand_made.models["joint"], limit) for limit in limits]
    held = np.ones(10**8, np.uint8)
    assert before == [choose_chunk(hand_made.models["joint"], limit) for limit in limits] and held.any()
    assert len(set(before)) > 3


def test_little_memory_only_makes_it_slower(few, hand_made, studies, monkeypatch):
    monkeypatch.setattr(model_cut, "MAX_CHUNK", 1)
    small = Explainer(hand_made, FEW)
    assert small.chunk == 1 < few.chunk
    one, other = explain(few, studies[:2]), explain(small, studies[:2])
    assert all(closeness(one[name].attribution, other[name].attribution) < 1e-5 for name in one)


@pytest.mark.large
def test_studies_are_drawn_only_when_there_is_room(hand_made, studies):
    """Memory does not grow with the number of studies: few wait at once."""
    drawn = []

    def many():
        for number in range(40):
            drawn.append(number)
            yield dataclasses.replace(studies[number % 3], id=str(number))

    explainer = Explainer(hand_made, dataclasses.replace(FEW, steps=32))
    for done, _ in enumerate(explainer.explain(many()), start=1):
        assert len(drawn) - done <= -(-explainer.chunk // 32) + AHEAD
    assert done == 40


def test_a_film_whose_pixels_are_not_square_is_explained_on_square_ones(few, tmp_path):
    """The same film stored square, and with every second row, twice as far apart: the same map, places in its rows."""
    y, x = np.mgrid[:96, :64]
    film = (60 * np.exp(-((x - 40) ** 2 + (y - 30) ** 2) / 300) * 68).astype(np.uint16)
    studies = []
    for name, stored, spacing in (("square", film, [0.1, 0.1]), ("oblong", film[::2], [0.2, 0.1])):
        dataset = make_dataset(stored, PixelSpacing=spacing, WindowCenter=2048, WindowWidth=4096)
        (tmp_path / f"{name}.dcm").write_bytes(encode(dataset))
        studies.append(Study(name, name, (ImageFile(tmp_path / f"{name}.dcm", "frontal"),)))
    found = explain(few, studies)
    square, oblong = found["square"], found["oblong"]
    assert square.film.shape == oblong.film.shape == (96, 64) and oblong.pixel_scale == (1.0, 2.0)
    assert square.heat.shape == oblong.heat.shape
    assert square.as_dict()["pixel_aspect"] == 1 and oblong.as_dict()["pixel_aspect"] == 2
    assert oblong.regions
    for region, said in zip(oblong.regions, oblong.as_dict()["regions"], strict=True):
        assert said["x"] == region.x and said["y"] == (region.y + 0.5) / 2 - 0.5
        assert -0.5 <= said["y"] <= 47.5
