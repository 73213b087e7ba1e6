"""Training in stages: word vectors, text classifier, image classifier, then the joint model that starts from both."""

import dataclasses
import platform
import shutil
from collections import Counter
from pathlib import Path

import keras
import numpy as np

import kmm
from kmm.batches import BatchMaker, TextPreparation
from kmm.classifier import Classifier, Predictions
from kmm.data.labels import (
    audit_headings,
    count_classes,
    describe_audit,
    describe_classes,
    label_studies,
    name_unread_columns,
)
from kmm.data.split import check_leaks, load_split, read_parts, split_studies
from kmm.data.study import Collection, part_problems
from kmm.errors import InputError, KmmError, look_up
from kmm.evaluate.calibration import THRESHOLD_POLICIES, fit_prevalence, fit_weights
from kmm.evaluate.report import evaluate_predictions, write_results
from kmm.evaluate.seen import gather_seen
from kmm.image.prepare import ImagePreparation
from kmm.models import build, checkpoints, parts
from kmm.models.feature_view import view_features, view_text
from kmm.models.fusion import FUSIONS
from kmm.models.loss import LOSSES
from kmm.models.registration import keep_given_models
from kmm.progress import Progress
from kmm.settings import FitSettings
from kmm.storage.classifier_folder import digest_file, read_json
from kmm.storage.files import write_json
from kmm.storage.seen_studies import SEEN_PARTS
from kmm.text.clean import find_words
from kmm.text.tfidf import TfidfBaseline
from kmm.text.vocabulary import Vocabulary, count_patients, find_rare, text_report
from kmm.text.word_pieces import WordPieces
from kmm.text.word_vectors import embedding_matrix, measure_coverage
from kmm.training.calibration import calibrate
from kmm.training.optimizers import OPTIMIZERS
from kmm.training.prepared_studies import prepare_studies
from kmm.training.run_context import FEATURE_BATCH, Run
from kmm.training.run_folders import digest_code
from kmm.training.schedule import SCHEDULES
from kmm.training.word_rows import choose_source

TUNED = {"none": False, "top": "top", "all": True}


def fit_classifier(
    collection: Collection,
    settings: FitSettings,
    *,
    work: Path | str,
    cache: Path | str,
    split: Path | str | None = None,
    progress: Progress | None = None,
    tensorboard: Path | str | None = None,
) -> tuple[Classifier, Run]:
    """Trains, calibrates and evaluates a classifier.

    Args:
        collection: `kmm.data.study.Collection`.
        settings: `FitSettings`.
        work: path of the folder for the state of the run. A stopped run resumes from this state.
        cache: path of the folder for features of frozen encoders, shared by all runs.
        split: path of a `split.csv` to use; None for a random split.
        progress: `kmm.progress.Progress`.
        tensorboard: path of the folder for TensorBoard logs, or None.

    Returns:
        `Classifier` with `metrics`, and the finished `Run` (history, split, problems).

    Raises:
        InputError: if the data or settings cannot be used. Its `problems` list the skipped studies.
        LeakError: if the split leaks. Its `problems` list the skipped studies.
    """
    run = Run(settings, work, cache=cache, progress=progress, tensorboard=tensorboard)
    policy = keras.config.dtype_policy()
    try:
        return _fit_run(run, collection, split), run
    except BaseException as error:
        run.close()
        if run.prepared is not None and isinstance(error, KmmError):
            _attach_problems(error, run)
        raise
    finally:
        keras.config.set_dtype_policy(policy)


def _attach_problems(error, run):
    """Adds the skipped studies to an error, as they may explain it."""
    error.problems = run.prepared.problems


def _fit_run(run, collection, split):
    settings = run.settings
    keep_given_models(settings, run.work)
    _check_settings(settings)
    if split:
        read_parts(split)  # reports a wrong file before the first film is read
    _check_work(run, collection)
    _prepare(run, collection, split)
    _check_data(run, split)
    if settings.text_encoder:
        _prepare_text(run)
    run.prepared.add_text(run.maker)
    if run.rare:
        run.prepared.hide_words(run.rows("train"), run.maker.vocabulary, run.rare)
    if settings.image_encoder:
        _build_image(run)  # before any training, to report weights for another network at once
    if settings.text_encoder:
        _fit_text(run)
    if settings.image_encoder:
        _fit_image(run)
    if settings.text_encoder and settings.image_encoder:
        _fit_joint(run)
    return _finish(run)


def _check_settings(s):
    """Checks names and files in the settings before the first film is read."""
    build.ModelSpec(s.image_encoder, s.text_encoder, s.fusion, s.pixels, s.length)
    find_words("", s.cleaning)
    for table, name, noun in (
        (THRESHOLD_POLICIES, s.threshold_policy, "threshold policy"),
        (LOSSES, s.loss, "loss"),
        (OPTIMIZERS, s.optimizer, "optimizer"),
        (SCHEDULES, s.schedule, "schedule"),
    ):
        look_up(table, name, noun)
    for name in ("word_pieces", "word_vectors", "image_weights"):
        path = getattr(s, name)
        if path and path not in checkpoints.NAMED_WEIGHTS and not Path(path).is_file():
            raise InputError(f"{path} is not a file. Give the setting `{name}` an existing file.")


def _check_work(run, collection):
    """Checks that the work folder belongs to the same settings and data."""
    run.work.mkdir(parents=True, exist_ok=True)
    path = run.work / "run.json"
    now = {"settings": run.settings.as_dict(), "studies": len(collection.studies), "layout": collection.layout}
    if path.exists():
        before = read_json(path)
        old = before.get("settings", {})
        changed = [name for name, value in now["settings"].items() if old.get(name) != value]
        changed += [name for name in ("studies", "layout") if before.get(name) != now[name]]
        if changed:
            raise _make_resume_error(run, changed)
    else:
        write_json(path, now)


def _make_resume_error(run, changed):
    return InputError(
        f"{run.work} cannot be resumed: {', '.join(changed)} changed since this run started. Restore the earlier "
        "state, or start over with --overwrite."
    )


def _check_data(run, split):
    """Checks that a resumed run has the same data, files and code as when it started."""
    s, path = run.settings, run.work / "data.json"
    files = {name: getattr(s, name) for name in ("word_pieces", "word_vectors", "image_weights")} | {"split": split}
    now = {
        "data": run.prepared.digest(),
        **{name: digest_file(file) for name, file in files.items() if file and Path(file).is_file()},
        "code": digest_code(),
        "backend": keras.backend.backend(),
    }
    before = read_json(path) if path.exists() else now
    if before != now:
        raise _make_resume_error(run, [name for name in {**before, **now} if before.get(name) != now.get(name)])
    write_json(path, now)


def _prepare(run, collection, split):
    s = run.settings
    try:
        studies, label_names = label_studies(
            collection.studies,
            s.labels,
            min_count=s.label_min_count,
            not_findings=s.not_findings,
            note=run.progress.note,
        )
    except InputError as error:
        raise InputError(f"{collection.folder}: {error}") from None
    _note_labels(run, collection)
    known = [study for study in studies if any(np.isfinite(study.labels[name]) for name in label_names)]
    run.maker = BatchMaker(
        ImagePreparation(s.pixels, s.image_fit) if s.image_encoder else None,
        TextPreparation(s.sections, s.cleaning, s.deidentified, s.length, s.truncate, pieces=bool(s.word_pieces))
        if s.text_encoder
        else None,
        vocabulary=None,
        label_names=label_names,
    )
    run.prepared = prepare_studies(
        known,
        run.maker,
        run.work / "films.f32",
        strict=s.strict,
        progress=run.progress,
    )
    if s.image_encoder and not run.prepared.present[:, 0].any():
        raise InputError(
            f"{collection.folder} has no study with a frontal image. Train on reports alone with --image-encoder none."
        )
    kept = run.work / "split.csv"
    if kept.exists():
        run.split = load_split(kept, run.prepared.studies, allow_missing=True)
    elif split:
        run.split = load_split(split, run.prepared.studies, allow_missing=True)
    else:
        run.split = split_studies(run.prepared.studies, shares=s.shares, seed=s.seed, label_names=label_names)
    check_leaks(run.split, run.prepared.studies)
    for part in ("train", "validation", "test"):
        if not len(run.rows(part)):
            raise InputError(f"The part {part} of the split has no studies. Give another --split, or more studies.")
    run.maker.label_names = _choose_labels(run)
    if s.image_encoder:
        _check_films(run)
    run.split.save(kept)
    run.facts.update(
        layout=collection.layout,
        studies=len(collection.studies),
        unlabelled=len(studies) - len(known),
        set_aside=len(part_problems([*collection.problems, *run.prepared.problems])[0]),
        with_image=int(run.prepared.present[:, 0].sum()),
        parts={part: len(run.rows(part)) for part in ("train", "validation", "test")},
        split_digest=run.split.digest,
    )


def _note_labels(run, collection):
    """Notes the studies and columns that a label scheme ignores, and records headings in the run's facts."""
    s = run.settings
    unread = name_unread_columns(collection.studies, s.labels)
    if unread:
        run.progress.note(unread)
    if s.labels == "findings":
        rows = audit_headings(collection.studies, min_count=s.label_min_count, not_findings=s.not_findings)
        run.facts["not_findings"] = rows
        run.progress.note(describe_audit(rows))


def _choose_labels(run):
    """Chooses the labels with both classes in the training part, and notes the names of the others and the classes that
    validation or test lack.

    Raises:
        InputError: if no label has both classes.
    """
    chosen, rejected = [], []
    for name in run.maker.label_names:
        counts = {part: _count_classes(run, name, run.rows(part)) for part in ("train", "validation", "test")}
        if not all(counts["train"]):
            rejected.append(f"label {name!r} lacks a class in the training part ({describe_classes(counts['train'])})")
            continue
        chosen.append(name)
        if not all(counts["validation"]):
            run.progress.note(
                f"Label {name!r} lacks a class in validation ({describe_classes(counts['validation'])}): its threshold "
                "and its temperature cannot be chosen."
            )
        if not all(counts["test"]):
            run.progress.note(
                f"Label {name!r} lacks a class in test ({describe_classes(counts['test'])}): ROC AUC and other "
                "measures of two classes are left out."
            )
    if not chosen:
        raise InputError(
            f"Training needs studies of both classes, but {'; '.join(rejected)}. Give a --split with both classes in "
            "every part, another --seed, or more studies."
        )
    for line in rejected:
        run.progress.note(f"Left out: {line}.")
    return tuple(chosen)


def _check_films(run):
    """Checks that the training part has films. Notes parts without films, and labels for which all training films have
    the same class.

    Raises:
        InputError: if the training part has no film.
    """
    films = {part: _with_films(run, part) for part in ("train", "validation", "test")}
    if not len(films["train"]):
        raise InputError(
            "The training part has no study with a film. Give a --split with films in every part, or train on reports "
            "alone with --image-encoder none."
        )
    for part, purpose in (("validation", "choose its epochs and thresholds"), ("test", "be evaluated")):
        if not len(films[part]):
            run.progress.note(f"No study of {part} has a film: the image part cannot {purpose}.")
    for name in run.maker.label_names:
        counts = _count_classes(run, name, films["train"])
        if not all(counts):
            run.progress.note(
                f"Label {name!r}: all training films have the same class ({describe_classes(counts)}), so the image "
                "part cannot learn it."
            )


def _with_films(run, part):
    rows = run.rows(part)
    return rows[run.prepared.present[rows, 0] > 0]


def _count_classes(run, name, rows):
    return count_classes(run.prepared.studies[row].labels[name] for row in rows)


def _prepare_text(run):
    """Builds vocabulary and word vectors from the training reports only, without the words of too few patients."""
    s, text = run.settings, run.maker.text
    studies = [run.prepared.studies[row] for row in run.rows("train")]
    documents, patients = [text.words(study) for study in studies], [study.patient for study in studies]
    if not any(documents):
        raise InputError(
            f"No training report has words in the sections {', '.join(s.sections)}. Choose other --sections, or train "
            "on films alone with --text-encoder none."
        )
    if s.word_pieces:
        trained = WordPieces.read(s.word_pieces)
        documents = [trained.pieces(words) for words in documents]
    word_patients = count_patients(documents, patients)
    run.rare = find_rare(word_patients, s.min_word_patients)
    documents = [words for words in documents if words]
    common = [[word for word in words if word not in run.rare] for words in documents]
    if not s.word_pieces:
        trained = Vocabulary.fit(common, min_count=s.min_word_count, max_words=s.max_words)
    source = choose_source(s)
    vectors, vocabulary = source.make(s, text, common, trained)
    run.maker.vocabulary = vocabulary
    counts = Counter(word for words in documents for word in words)
    run.vectors, _ = embedding_matrix(vectors, vocabulary, normalize=s.normalize_vectors, seed=s.seed)
    coverage = measure_coverage(vectors, trained, counts=counts)
    unseen = [vocabulary.pieces(text.words(run.prepared.studies[row])) for row in run.rows("validation")]
    run.facts["text"] = {
        **text_report(documents, vocabulary, s.length),
        "unknown_rate_on_validation": text_report(unseen, vocabulary, s.length)["unknown_rate"],
        "words": len(vocabulary),
        "words_of_the_vectors_alone": len(vocabulary) - len(trained),
        "word_patients": _sum_patients(word_patients, vocabulary, run.rare, s.min_word_patients),
        "words_passed_over": vectors.passed_over,
        "word_pieces": Path(s.word_pieces).name if s.word_pieces else None,
        "word_vectors": source.describe(s),
        "coverage_of_words": coverage.types,
        "coverage_of_running_words": coverage.tokens,
    }
    run.progress.note(_describe_text(run.facts["text"], s.length))


def _sum_patients(counts, vocabulary, rare, least):
    """Counts the patients that use the words read in training, for the privacy report of an export: numbers only."""
    used = [counts[word] for word in vocabulary.words[2:] if word in counts and word not in rare]
    return {
        "min_word_patients": least,
        "words": len(used),
        "of_one_patient": sum(count == 1 for count in used),
        "of_fewer_than_5": sum(count < 5 for count in used),
        "left_out": len(rare),
    }


def _describe_text(facts, length):
    words = "word pieces" if facts["word_pieces"] else "words"
    trained = facts["words"] - facts["words_of_the_vectors_alone"]
    more = f" and {facts['words_of_the_vectors_alone']} only from the vectors" if facts["words"] > trained else ""
    skipped, patients = facts["words_passed_over"], facts["word_patients"]
    end = f"; {skipped} words of the file are skipped, as they have white space or are not UTF-8" if skipped else ""
    if patients["left_out"]:
        end += (
            f"; {patients['left_out']} {words} of fewer than {patients['min_word_patients']} patients are read as "
            "unknown"
        )
    return (
        f"{words.capitalize()}: {trained} from training{more}; {facts['coverage_of_words']:.1%} of those from training "
        f"({facts['coverage_of_running_words']:.1%} of their occurrences) have a vector; "
        f"{facts['truncated_share']:.1%} of the training reports are cut at {length}; "
        f"{facts['unknown_rate_on_validation']:.1%} of the {words} of validation are unknown{end}"
    )


def _fit_text(run):
    s = run.settings
    model = run.build(image=False, text=True)
    run.fit(model, "text", epochs=s.text_epochs, rate=s.text_learning_rate)
    run.models["text"] = model


def _build_image(run):
    s = run.settings
    run.models["image"] = run.build(image=True, text=False)
    if s.image_weights:
        encoder = parts.image_encoder_of(run.models["image"])
        report = checkpoints.load_image_weights(encoder, s.image_encoder, s.image_weights)
        run.facts["image_weights"] = dataclasses.asdict(report)


def _fit_image(run):
    s, model = run.settings, run.models["image"]
    encoder = parts.image_encoder_of(model)
    if s.image_weights:
        head = view_features(model, ("image",))
        features = {"image_vector": run.image_features(encoder)}
        run.fit(head, "image head", epochs=s.image_epochs, rate=s.learning_rate, features=features)
        if s.tune_image != "none":
            parts.set_trainable(model, run.spec(image=True, text=False), image=TUNED[s.tune_image])
            run.tuned = True
            run.fit(model, "image tuning", epochs=s.tune_epochs, rate=s.tune_learning_rate)
    else:
        run.fit(model, "image", epochs=s.image_epochs, rate=s.learning_rate)


def _fit_joint(run):
    """Initialises the joint model with the sum of both trained classifiers, weighted on validation; trains its head on
    features, then the whole model at the low rate."""
    s = run.settings
    model = run.build(image=True, text=True)
    parts.copy_encoder_weights(run.models["image"], model)
    parts.copy_encoder_weights(run.models["text"], model)
    features = {
        "image_vector": run.image_features(parts.image_encoder_of(model)),
        "text_vector": _text_features(run, model),
    }
    rows = run.rows("validation")
    sides = {side: view_features(run.models[side], (side,)) for side in ("image", "text")}
    logits = {side: run.predict(view, rows, features) for side, view in sides.items()}
    weights, bias = fit_weights(logits, run.prepared.labels[rows])
    heads = {side: parts.fusion_of(run.models[side]) for side in sides}
    FUSIONS[s.fusion].join(parts.fusion_of(model), heads, weights, bias)
    run.facts["start_weights"] = {side: list(map(float, row)) for side, row in weights.items()}
    head = view_features(model, ("image", "text"))
    run.fit(head, "joint head", epochs=s.joint_epochs, rate=s.learning_rate, features=features)
    if s.tune_epochs:
        parts.set_trainable(model, run.spec(image=True, text=True), image=TUNED[s.tune_image])
        tuned = model if s.tune_image != "none" else view_features(model, ("image",))
        run.fit(tuned, "joint tuning", epochs=s.tune_epochs, rate=s.tune_learning_rate, features=features)
    run.models["joint"] = model


def _text_features(run, model):
    encode, ids = view_text(model), run.prepared.token_ids
    size = FEATURE_BATCH * 8
    vectors = [encode.predict_on_batch({"token_ids": ids[at : at + size]})["vector"] for at in range(0, len(ids), size)]
    return np.concatenate(vectors)


def _finish(run):
    """Calibrates and chooses thresholds on validation, then evaluates validation and, only once, test."""
    s, prepared = run.settings, run.prepared
    train = run.rows("train")
    known = prepared.labels[train]
    tfidf = None
    if s.text_encoder:
        texts = [run.maker.text.text(prepared.studies[row]) for row in train]
        patients = [prepared.studies[row].patient for row in train]
        tfidf = TfidfBaseline.fit(texts, known, seed=s.seed, patients=patients, min_patients=s.min_word_patients)
    classifier = Classifier(
        models={part: run.models[part] for part in ("joint", "image", "text") if part in run.models},
        batches=run.maker,
        settings=s if run.vectors is None else dataclasses.replace(s, embedding_size=run.vectors.shape[1]),
        temperatures={},
        thresholds={},
        prevalence=fit_prevalence(known, prepared.present[train]),
        mean_image=prepared.mean_image(train),
        tfidf=tfidf,
        seen=_gather_seen(run),
    )
    views = {name: _view_answers(run, name, model) for name, model in classifier.models.items()}
    run.predictions = {part: _predict(run, views, part) for part in ("validation", "test")}
    calibrate(run, classifier, views)
    for name, predictions in run.predictions.items():
        with run.progress.step(f"Evaluating {name}", 1) as advance:
            classifier.metrics[name] = evaluate_predictions(classifier, predictions, repeats=s.bootstrap_repeats)
            advance()
    classifier.provenance = _provenance(run)
    return classifier


def _view_answers(run, name, model):
    """Returns a function from rows, and optionally another `present`, to logits; reuses a frozen encoder's features."""
    features = {}
    if run.frozen and name != "text":
        model, features = view_features(model, ("image",)), {"image_vector": run.image_vectors}
    return lambda rows, **hidden: run.predict(model, rows, {**features, **hidden})


def _predict(run, views, part):
    """Predicts a part of the split."""
    rows, prepared = run.rows(part), run.prepared
    return Predictions(
        studies=[prepared.studies[row] for row in rows],
        present=prepared.present[rows],
        logits={name: answer(rows) for name, answer in views.items()},
        labels=prepared.labels[rows],
        problems=[],
    )


def _gather_seen(run):
    """Hashes the studies of training and validation, so that `kmm evaluate` can recognise them."""
    prepared, text = run.prepared, run.maker.text
    columns = (prepared.studies, prepared.image_digests, prepared.sketches)
    return {
        part: gather_seen(*([column[row] for row in run.rows(part)] for column in columns), text) for part in SEEN_PARTS
    }


def _provenance(run):
    return {
        **run.facts,
        "data_digest": run.prepared.digest(),
        "kmm": kmm.__version__,
        "code_digest": digest_code(),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "python": platform.python_version(),
    }


def save_run(classifier: Classifier, run: Run, folder: Path | str, *, overwrite: bool = False) -> None:
    """Saves the classifier with its split, learning curves, pictures and model card, and removes the work folder.

    Args:
        classifier, run: results of `fit_classifier`.
        folder: path of the new folder.
        overwrite: bool. Replaces an existing saved classifier.

    Raises:
        InputError: if the folder exists and `overwrite` is false, or it is not a saved classifier.
    """
    classifier.provenance["name"] = Path(folder).name

    def extra(temporary):
        run.split.save(temporary / "split.csv")
        write_json(temporary / "history.json", run.history)
        write_results(classifier, run.predictions["test"], run.history, temporary, path=folder)

    classifier.save(folder, overwrite=overwrite, extra=extra)
    run.close()
    shutil.rmtree(run.work)
