"""Results as tables on standard output: the last step of a command."""

import sys


def print_checks(report):
    """A line a check of a `VerifyReport`; what is wrong is said, with examples."""
    rows = [
        [
            check.name,
            check.found,
            "" if check.expected is None else check.expected,
            "wrong" if check.wrong else "",
            "; ".join(check.examples[:3]),
        ]
        for check in report.checks
    ]
    _print_table(["check", "found", "expected", "", "examples"], rows, title=f"{report.folder}: {report.layout}")


def print_summary(summary):
    """The counts of `kmm.data.summary.summarize_collection`."""
    print(f"layout: {summary['layout']}")
    print(f"studies: {summary['studies']}, of {summary['patients']} patients")
    print(f"  at most {summary['most_studies_of_a_patient']} of one patient; {summary['set_aside']} set aside")
    sides = {"film_and_report": "film and report", "film": "film alone", "report": "report alone", "neither": "neither"}
    having = summary["studies_with"]
    print(f"  {', '.join(f'{title}: {having[name]}' for name, title in sides.items())}")
    films = summary["films"]
    print(f"films: {sum(films.values())}, {', '.join(f'{view}: {count}' for view, count in films.items())}")
    sections = [
        [name, found["reports"], found["words"], f"{found['median_words']:g}", found["most_words"]]
        for name, found in summary["sections"].items()
    ]
    _print_table(["section", "reports", "words", "median words", "most words"], sections)
    if "labels" in summary:
        labels = [
            [name, found["positive"], found["negative"], found["unknown"], _number(found["prevalence"])]
            for name, found in summary["labels"]["counts"].items()
        ]
        title = f"labels {summary['labels']['scheme']}: {summary['labels']['studies']} studies"
        _print_table(["label", "positive", "negative", "unknown", "prevalence"], labels, title=title)


def print_results(results):
    """A table for each part (validation, test) of what `kmm.evaluate.compare.compare_models` returned.

    Accuracy and area under the curve come with their 95 % intervals over patients; what the joint classifier has over
    image and text stands under the table, and with many labels a table of the area under the curve of each.
    """
    from kmm.evaluate.card import MEASURED_ON, compare_rows, evaluate_rows, label_rows

    for part, result in results.items():
        columns, *rows = evaluate_rows(result, intervals=("accuracy", "roc_auc"))
        columns = [SHORT_TITLES.get(title, title) for title in columns]
        rows = [[title.partition(" (")[0].partition(" +")[0], *cells] for title, *cells in rows]  # 160 columns hold it
        _print_table(columns, rows, title=f"{part}: {result['n']} studies")
        if "caution" in result:
            print(result["caution"])
        if any((result[name] or {}).get("n", result["n"]) != result["n"] for name in ("image", "text", "tfidf")):
            print(MEASURED_ON)
        for line in compare_rows(result):
            if "ROC AUC" in line and "TF-IDF" not in line:
                print(line)
        if labels := label_rows(result):
            _print_table(*labels[:1], labels[1:], title=f"{part}: ROC AUC of each label [95 % interval]")


def print_packed(packed):
    """What `kmm.export.pack.pack_classifier` wrote, and what it left out."""
    print(f"{packed['archive']}: {packed['bytes'] / 1e6:.1f} MB, digest {packed['digest'][:16]}")
    for name in packed["files"]:
        print(f"  {name}")
    of_one = packed["words_of_one_patient"]
    known = "how many of one patient is not known" if of_one is None else f"{of_one} of one patient"
    print(f"words of the vocabulary, which come from the training reports: {packed['words']}, {known}")
    print(f"left out: {', '.join(packed['left_out']) or 'nothing'}")


def print_model_checks(checks):
    """A line for each check of `kmm.export.verification.verify_classifier`."""
    for check in checks:
        print(f"{check.result}: {check.name}: {check.detail}")


def print_encoders(rows):
    """The encoders that `kmm.models.encoder_weights.list_encoders` listed."""
    cells = [
        [
            row["name"],
            row["reads"],
            row["pixels"] or "",
            "" if row["parameters"] is None else f"{row['parameters']:,}",
            ", ".join(row["weights"]) or "trained by kmm fit",
            row["source"],
        ]
        for row in rows
    ]
    _print_table(["encoder", "reads", "pixels", "parameters", "weights", "source"], cells)


def print_weights(result):
    """What `kmm.models.encoder_weights.check_weights` or `convert_weights` found."""
    if not result["fits"]:
        print(f"does not fit {result['encoder']}: {result['reason']}")
        return
    print(f"{result['source']}: fits {result['encoder']}")
    print(f"  layers matched: {len(result['layers'])} of {len(result['layers'])}")
    print(f"  arrays: {result['tensors']}, parameters: {result['parameters']:,}")
    extra = result["extra"]
    more = f", {len(extra) - 5} more" if len(extra) > 5 else ""
    print(f"  layers of the file left out: {len(extra)}" + (f" ({', '.join(extra[:5])}{more})" if extra else ""))
    print(f"  sha256 of the file: {result['sha256']}")
    print(f"  sha256 of the weights: {result['weights_sha256']}")
    if "out" in result:
        print(f"written: {result['out']}")


def print_kept(result):
    """The folders that `kmm.training.run_folders.list_kept` listed."""
    rows = [
        [
            one["name"],
            f"{one['bytes'] / 1e6:.1f}",
            one["belongs_to"],
            ": ".join(filter(None, (one["state"], one["reason"]))),
        ]
        for one in result["kept"]
    ]
    if rows:
        _print_table(["folder", "MB", "belongs to", "state"], rows)
    print(f"{result['out']}: {len(rows)} folders, {result['bytes'] / 1e6:.1f} MB")


def print_cleared(result):
    """The folders that `kmm.training.run_folders.clear_kept` removed."""
    print(f"{result['out']}: {len(result['removed'])} folders removed, {result['bytes'] / 1e6:.1f} MB")


def print_predictions(rows):
    """A line a study of what `kmm.classifier.describe_predictions` returned; a star marks a positive decision."""
    if not rows:
        return
    names = list(rows[0]["probabilities"])
    lines = [
        [
            row["study"],
            "yes" if row["image_present"] else "no",
            "yes" if row["text_present"] else "no",
            *(f"{row['probabilities'][name]:.3f}{' *' if row['decisions'][name] else ''}" for name in names),
        ]
        for row in rows
    ]
    _print_table(["study", "image", "text", *names], lines)
    print("* at or above the label's threshold")


def print_explanations(result):
    """A line a study of a folder that was explained, the first forty; then what a check measured."""
    shown = [row for row in result["rows"] if not row["error"]]
    warned = any(row.get("warnings") for row in shown)
    rows = [
        {
            "study": row["study"],
            "label": row["target"],
            "probability": _number(row["probability"]),
            "threshold": _number(row.get("threshold")),
            "decision": row.get("decision") or "",
            "circles": row["regions"],
            "strongest at": "" if row["top_x"] is None else f"{row['top_x']:.0f}, {row['top_y']:.0f}",
            "share of text": _number(row["text_share"]),
            "map error": _number(row["map_error"]),
            **({"steps": row["steps"]} if "steps" in row else {}),  # of an export they are always the same
            **({"warnings": row.get("warnings", "")} if warned else {}),
        }
        for row in shown[:MOST_ROWS]
    ]
    title = f"{result['out']}: {result['studies'] - result['failed']} of {result['studies']} studies explained"
    _print_table(list(rows[0]) if rows else [], [list(row.values()) for row in rows], title=title)
    if len(shown) > MOST_ROWS:
        print(f"{len(shown) - MOST_ROWS} more in index.html")
    if "check" in result:
        _print_measures(result["check"])
        _print_verdict(result["verdict"])


def print_fidelity(result):
    """What was chosen and measured by `kmm fidelity`."""
    if "sensitivity" in result:
        chosen = result["sensitivity"]
        films, speaking = (chosen["sweep"][0][name] for name in ("films", "speaking"))
        speak = f", {speaking} of which speak for the label" if chosen["rule"] == "gain" else ""
        print(
            f"Sight sensitivity {chosen['chosen']} (rule {chosen['rule']}, chosen on {films} validation films{speak})"
        )
    _print_measures(result["methods"])


MOST_ROWS = 40
SHORT_TITLES = {  # the intervals need the room
    "Studies (positive)": "n (positive)",
    "Balanced accuracy": "Bal. acc.",
    "Sensitivity": "Sens.",
    "Specificity": "Spec.",
}

# What each measure is, by the table in which it stands.
MEASURES = {
    "Circles and boxes": {
        "hit": "the centre of the strongest circle lies in a box of the label: share of films with a box",
        "hit_one": "the same of films with one box",
        "hit_peak": "the strongest pixel of the map lies in a box",
        "iou": "circles and boxes, intersection over union; 0 without a circle",
    },
    "Pixels replaced by the baseline": {
        "speaks": "the film adds enough to the score to be measured here: share of films",
        "deletion": "area under the score, 1 being the film's, as the strongest pixels go first: the lower the better, "
        "also below 0 or above 1; of films that speak",
        "insertion": "the same as they come first: the higher the better",
    },
    "Words": {
        "named": "a word that names the label is among the top three: share of reports",
        "alike_words": "rank correlation of the words with those of the model with new weights: near 0 is right",
    },
    "Attributions": {
        "similarity": "rank correlation of the map with that of the model with new weights: near 0 is right",
        "completeness_gap": "how far the attributions are from adding up to the score, relative",
        "map_error": "estimated relative error of the attributions",
        "steps": "points of the path",
    },
}
VERDICTS = {
    "completeness": "attributions add up to the score within --gap-tolerance",
    "weights_film": "the map of the film changes with the model's weights",
    "weights_words": "the words change with the model's weights",
    "pixels": "the map's strongest pixels carry more of the score than pixels in random order",
}


def _print_measures(methods):
    """Tables of measures, a line a method: mean, 95 % interval and number of studies; what each measure is below."""
    for title, measures in MEASURES.items():
        known = {
            method: {name: found[name] for name in measures if found.get(name, {}).get("n")}
            for method, found in methods.items()
        }
        shown = [name for name in measures if any(name in found for found in known.values())]
        rows = [
            [method, *(_mean_of(found[name]) if name in found else "" for name in shown)]
            for method, found in known.items()
            if found
        ]
        if shown:
            _print_table(["", *shown], rows, title=f"{title}: mean [95 % interval] studies")
            for name in shown:
                print(f"  {name}: {measures[name]}")


def _print_verdict(verdict):
    """A line a criterion of `kmm explain --check`."""
    _print_table(["check", ""], [[VERDICTS[name], found] for name, found in verdict.items()])


def _mean_of(measure):
    low, high = map(_number, measure["interval"])
    return f"{_number(measure['mean'])} [{low}, {high}] {measure['n']}"


def _number(value):
    return "" if value is None else f"{value:.3f}"


def _print_table(columns, rows, title=None):
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, markup=False, highlight=False).print(table)
