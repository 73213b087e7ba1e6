"""Print results as tables on standard output: the last step of a command."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmm.data.verify import VerifyReport
    from kmm.export.verification import ModelCheck

Row = Mapping[str, Any]


def print_checks(report: "VerifyReport") -> None:
    """Prints one line per check of a folder; a failed check has examples."""
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


def print_summary(summary: Row) -> None:
    """Prints the counts of `kmm.audit.collection_audit.audit_collection`."""
    print(f"layout: {summary['layout']}")
    print(f"studies: {summary['studies']}, of {summary['patients']} patients")
    print(f"  at most {summary['most_studies_of_a_patient']} of one patient; {summary['set_aside']} set aside")
    sides = {"film_and_report": "film and report", "film": "film alone", "report": "report alone", "neither": "neither"}
    having = summary["studies_with"]
    print(f"  {', '.join(f'{title}: {having[name]}' for name, title in sides.items())}")
    if "parts" in summary:
        print(f"published parts: {', '.join(f'{part}: {count}' for part, count in summary['parts'].items())}")
    films = summary["films"]
    print(f"films: {sum(films.values())}, {', '.join(f'{view}: {count}' for view, count in films.items())}")
    sections = [
        [name, found["reports"], found["words"], *(f"{found[f'{key}_words']:g}" for key in ("median", "p99", "most"))]
        for name, found in summary["sections"].items()
    ]
    _print_table(["section", "reports", "words", "median words", "99th percentile", "most words"], sections)
    for way in summary["report_words"]:
        print(f"cut at {way['length']} words (preset {', '.join(way['presets'])}): {way['cut']} of {way['reports']}")
    for title, copies in (("report bodies", summary["copies"]["reports"]), *_list_film_copies(summary)):
        print(f"{title}: {copies['groups']} groups of copies, {copies['studies']} studies in them")
    if "labels" in summary:
        labels = [
            [name, found["positive"], found["negative"], found["unknown"], _number(found["prevalence"])]
            for name, found in summary["labels"]["counts"].items()
        ]
        title = f"labels {summary['labels']['scheme']}: {summary['labels']['studies']} studies"
        _print_table(["label", "positive", "negative", "unknown", "prevalence"], labels, title=title)
        _print_pairs(summary["labels"].get("pairs") or [])
        _print_rules(summary["labels"].get("rules") or [])


MOST_PAIRS = 15


def _print_pairs(pairs):
    """Prints the labels that most often occur together."""
    rows = [[row["label"], row["other"], row["both"], f"{row['expected']:.1f}"] for row in pairs[:MOST_PAIRS]]
    if rows:
        more = f"; {len(pairs) - MOST_PAIRS} pairs more with --json" if len(pairs) > MOST_PAIRS else ""
        title = f"labels that occur together (expected: by chance){more}"
        _print_table(["label", "other label", "studies", "expected"], rows, title=title)


def _print_rules(rules):
    """Prints what each label and each entry of label rules took."""
    if not rules:
        return
    counts = ["positive", "negative", "unknown", "unmentioned", "without_text"]
    labels = [[row["label"], ", ".join(row["read"]), *(row[count] for count in counts)] for row in rules]
    _print_table(["label", "read", *(count.replace("_", " ") for count in counts)], labels, title="label rules")
    counts = ["studies", "affirmed", "negated", "uncertain", "decided"]
    entries = [
        [row["label"], entry["kind"], entry["entry"], *(entry[count] for count in counts)]
        for row in rules
        for entry in row["entries"]
    ]
    _print_table(["label", "list", "entry", *counts], entries, title="entries of the label rules, in studies")


def _list_film_copies(summary):
    films = summary["copies"]["films"]
    return [("film files", films["same_bytes"]), ("frontal films", films["same_pixels"])] if films else []


def print_results(results: Mapping[str, Row], *, subgroups: bool = False) -> None:
    """Prints the tables of `kmm.evaluate.output.tables.write_results_table`."""
    from kmm.evaluate.output.tables import write_results_table

    print(write_results_table(results, terminal=sys.stdout.isatty(), subgroups=subgroups), end="")


def print_comparison(summary: Row) -> None:
    """Prints the means over splits of `kmm compare`, the differences with their tests, and what was done otherwise than
    in the published protocol."""
    from kmm.experiments.comparison import render_summary

    print(render_summary(summary, terminal=sys.stdout.isatty()), end="")


def print_pretrained(result: Row) -> None:
    """Prints what `kmm.training.pretraining.pretrain.pretrain_encoder` trained on, and how the loss fell."""
    films = result["films"]
    print(f"{result['out']}: {result['image_encoder']}, {result['objective']}")
    print(f"  films: {films['train']} of training, {films['validation']} of validation")
    if "headings" in result:
        print(f"  headings: {len(result['headings'])}")
    for name, found in result.get("teacher_roc_auc", {}).items():
        shown = (
            "a class is missing" if found is None else f"ROC AUC {found:.3f} on training reports that it did not see"
        )
        print(f"  teacher of {name}: {shown}")
    for name, history in result["history"].items():
        if history:
            losses = history["val_loss"]
            print(f"  {name}: validation loss {losses[0]:.4f} after one epoch, {min(losses):.4f} at best")
    if not result["changed"]:
        print("  no epoch improved on the start: the weights are those that it started from")


def print_packed(packed: Row) -> None:
    """Prints the files that `kmm.export.pack.pack_classifier` wrote, and those that it left out."""
    print(f"{packed['archive']}: {packed['bytes'] / 1e6:.1f} MB, digest {packed['digest'][:16]}")
    for name in packed["files"]:
        print(f"  {name}")
    of_one = packed["words_of_one_patient"]
    known = "of one patient: not known" if of_one is None else f"{of_one} of one patient"
    print(f"words of the vocabulary, which come from the training reports: {packed['words']}, {known}")
    print(f"left out: {', '.join(packed['left_out']) or 'nothing'}")
    for side in ("image", "text"):
        if found := packed[f"{side}_weights"]:
            print(f"weights of the {side} encoder: {found}")


def print_model_checks(checks: Sequence["ModelCheck"]) -> None:
    """Prints one line per check of `kmm.export.verification.verify_classifier`."""
    for check in checks:
        print(f"{check.result}: {check.name}: {check.detail}")


def print_encoders(rows: Sequence[Row]) -> None:
    """Prints the encoders of `kmm.models.weights.encoder_weights.list_encoders`."""
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


def print_weights(result: Row, *, keys: bool = False) -> None:
    """Prints the result of `kmm.models.weights.encoder_weights.check_weights` or `convert_weights`.

    Args:
        result: dict that they return.
        keys: bool. Whether to print each tensor of the file with the layer that it is for.
    """
    if not result["fits"]:
        print(f"does not fit {result['encoder'] or 'an encoder'}: {result['reason']}")
        _print_tensors(result, keys)
        return
    loaded = len(result["layers"]) - len(result["missing"])
    print(f"{result['source']}: fits {result['encoder']}")
    print(f"  layers matched: {loaded} of {len(result['layers'])}, for films of {result['pixels']} pixels")
    print(f"  arrays: {result['tensors']}, parameters: {result['parameters']:,}")
    print(f"  layers of the file left out: {_shorten(result['extra'])}")
    if result["random"]:
        print(f"  layers with random weights: {_shorten(result['random'])}")
    print(f"  sha256 of the file: {result['sha256']}")
    print(f"  sha256 of the weights: {result['weights_sha256']}")
    print(f"  licence: {result['licence']}" + (f", from {result['origin']}" if result["origin"] else ""))
    if "against" in result:
        found = result["against"]
        print(
            f"  features against {found['reference']}: largest relative difference {found['difference']:.1e}, "
            f"allowed {found['allowed']:.0e}: {'equal' if found['equal'] else 'NOT EQUAL'}"
        )
    _print_tensors(result, keys)
    if "out" in result:
        print(f"written: {result['out']}")


def _print_tensors(result, keys):
    """Prints the tensors that are not used and the layers that are missing, or with `keys` all of them."""
    unused = [row["name"] for row in result["file"] if row["layer"] is None]
    if result["file"]:
        print(f"  tensors of the file: {len(result['file'])}, not used: {_shorten(unused)}")
    if result["missing"]:
        print(f"  layers that the file lacks: {_shorten(result['missing'])}")
    if keys:
        rows = [[row["name"], "x".join(map(str, row["shape"])) or "1", row["layer"] or "-"] for row in result["file"]]
        _print_table(["tensor", "shape", "layer"], rows + [["-", "-", name] for name in result["missing"]])


def _shorten(names):
    more = f", {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)}" + (f" ({', '.join(names[:5])}{more})" if names else "")


def print_text_weights(result: Row) -> None:
    """Prints the result of `kmm.training.preparation.text_weights.check_text_folder`."""
    cells = [
        [row["use"], row["name"], *map(_show_shape, (row["expected"], row["received"]))] for row in result["listing"]
    ]
    if cells:
        _print_table(["use", "tensor", "expected", "received"], cells)
    if not result["fits"]:
        print(f"does not fit {result['encoder']}: {result['reason']}")
        return
    shape = result["shape"]
    print(f"{result['source']}: fits {result['encoder']}")
    print(f"  layers: {shape['layers']}, heads: {shape['heads']}, width: {shape['width']}, hidden: {shape['hidden']}")
    print(f"  tensors: {result['tensors']}, parameters: {result['parameters']:,}")
    print(f"  word pieces: {result['words']:,}, cleaning: {result['cleaning']}")
    print(f"  sha256 of the weights: {result['sha256']}")


def _show_shape(shape):
    return "" if shape is None else " x ".join(map(str, shape))


def print_kept(result: Row) -> None:
    """Prints the folders of `kmm.training.run_folders.list_kept`."""
    rows = [
        [
            one["name"],
            f"{one['bytes'] / 1e6:.1f}",
            f"{one['days']:.1f}",
            one["belongs_to"],
            ": ".join(filter(None, (one["state"], one["reason"]))),
        ]
        for one in result["kept"]
    ]
    if rows:
        _print_table(["folder", "MB", "days", "belongs to", "state"], rows)
    print(f"{result['out']}: {len(rows)} folder{'' if len(rows) == 1 else 's'}, {result['bytes'] / 1e6:.1f} MB")
    print(f"Films and features may take {result['limit_bytes'] / 1e9:g} GB (KMM_CACHE_GB)")


def print_cleared(result: Row) -> None:
    """Prints the number and size of the folders that `kmm.training.run_folders.clear_kept` removed."""
    print(f"{result['out']}: {len(result['removed'])} folders removed, {result['bytes'] / 1e6:.1f} MB")


def print_predictions(rows: Sequence[Row]) -> None:
    """Prints one line per study of `kmm.classifier.describe_predictions`, with a mark for each decision."""
    from kmm.protocol.predictions import explain_marks, show_decision

    if not rows:
        return
    names = list(rows[0]["probabilities"])
    lines = [
        [
            row["study"],
            "yes" if row["image_present"] else "no",
            "yes" if row["text_present"] else "no",
            *(show_decision(row["probabilities"][name], row["decisions"][name]) for name in names),
        ]
        for row in rows
    ]
    _print_table(["study", "image", "text", *names], lines)
    print(explain_marks(row["decisions"] for row in rows))


def print_explanations(result: Row) -> None:
    """Prints one line per explained study, at most `MOST_ROWS`; then the measures of `kmm explain --check`."""
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
            **({"steps": row["steps"]} if "steps" in row else {}),  # an export always takes the same steps
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


def print_fidelity(result: Row) -> None:
    """Prints the sensitivity that `kmm fidelity` chose, and its measures."""
    if "sensitivity" in result:
        chosen = result["sensitivity"]
        films, speaking = (chosen["sweep"][0][name] for name in ("films", "speaking"))
        speak = f"; {speaking} of them raise the score" if chosen["rule"] == "gain" else ""
        print(
            f"Sight sensitivity {chosen['chosen']} (rule {chosen['rule']}, chosen on {films} validation films{speak})"
        )
    _print_measures(result["methods"])


MOST_ROWS = 40
# Meaning of each measure, by the table that shows it.
MEASURES = {
    "Circles and boxes": {
        "hit": "fraction of films with a box whose strongest circle has its centre in a box of the label",
        "hit_one": "the same for films with one box",
        "hit_peak": "fraction of films with a box whose strongest pixel lies in a box",
        "iou": "intersection over union of circles and boxes; 0 without a circle",
    },
    "Pixels replaced by the baseline": {
        "speaks": "fraction of films that raise the score enough to be measured here",
        "deletion": "area under the score, scaled to 1 for the film, while the strongest pixels are removed first: "
        "lower is better; may be below 0 or above 1; only films counted by speaks",
        "insertion": "the same while the strongest pixels are inserted first: higher is better",
    },
    "Words": {
        "named": "fraction of reports with a word that names the label among the top three",
        "alike_words": "rank correlation of the words' attributions with those of a model with random weights: near 0 "
        "is right",
    },
    "Film, agreement with integrated gradients": {
        "ig_pearson": "correlation of the smoothed maps",
        "ig_spearman": "rank correlation of the smoothed maps",
        "ig_iou_5": "intersection over union of the strongest 5 % of both maps; 0.026 by chance",
        "ig_iou_20": "the same of the strongest 20 %; 0.11 by chance",
    },
    "Words, agreement with integrated gradients": {
        "ig_words_pearson": "correlation of the attributions of words",
        "ig_words_spearman": "rank correlation of the attributions of words",
        "ig_words_iou_5": "intersection over union of the strongest 5 % of the words, at least one",
        "ig_words_iou_20": "the same of the strongest 20 %",
    },
    "Attributions": {
        "similarity": "rank correlation of the map with that of a model with random weights: near 0 is right",
        "completeness_gap": "relative difference between the sum of the attributions and the score",
        "map_error": "estimated relative error of the attributions",
        "steps": "path points",
    },
}
VERDICTS = {
    "completeness": "attributions add up to the score within --gap-tolerance",
    "weights_film": "the film's map changes with the model's weights",
    "weights_words": "the words' attributions change with the model's weights",
    "pixels": "the strongest pixels of the map change the score more than pixels in random order",
}


def _print_measures(methods):
    """Prints tables of measures, one line per method: mean, 95 % interval and number of studies; meanings below."""
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
    """Prints one line per criterion of `kmm explain --check`."""
    _print_table(["check", ""], [[VERDICTS[name], found] for name, found in verdict.items()])


def _mean_of(measure):
    low, high = map(_number, measure["interval"])
    return f"{_number(measure['mean'])} [{low}, {high}] {measure['n']}"


def _number(value):
    return "" if value is None else f"{value:.3f}"


def _print_table(columns, rows, title=None):
    from kmm.evaluate.output.tables import write_table

    print(write_table(columns, rows, title=title, terminal=sys.stdout.isatty()), end="")
