"""Write the methods paragraph of a comparison with its figures filled in, for a paper or a report."""

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from kmm.experiments.output.claims import state_answers
from kmm.experiments.output.references import cite_in_markdown, cite_in_words, list_references
from kmm.experiments.output.size_claims import state_wanted
from kmm.experiments.schema import Summary
from kmm.experiments.tables import Columns, list_values
from kmm.experiments.titles import title_variant, title_within

PARTS = ("train", "validation", "test")


GROUPED_BY = "a patient, an identical film or an identical report body"


def describe_resampling(resampling: Mapping[str, Any]) -> str:
    """Describes how studies were split, as the rest of a sentence.

    Args:
        resampling: dict of `Summary`.

    Returns:
        str.

    Example:
        >>> describe_resampling({"splits": 10, "n_train": 0.65, "n_test": 0.2})
        '10 stratified splits (65 % train, 15 % validation, 20 % test)'
        >>> describe_resampling({"folds": 5, "repeats": 2})
        '5-fold cross-validation, repeated 2 times'
    """
    if folds := resampling.get("folds"):
        times = resampling.get("repeats") or 1
        return f"{folds}-fold cross-validation" + (f", repeated {times} times" if times > 1 else "")
    number = resampling.get("splits") or 1
    kind = "plain" if resampling.get("plain") else "stratified"
    train, test = (resampling.get(name) or 1 for name in ("n_train", "n_test"))
    shares = zip(PARTS, (train, 1 - train - test, test))
    sizes = ", ".join(f"{100 * share:.0f} % {part}" for part, share in shares) if train + test < 1 else ""
    return f"{number} {kind} {'split' if number == 1 else 'splits'}{f' ({sizes})' if sizes else ''}"


def count_data(predictions: Columns, summary: Summary) -> dict[str, int]:
    """Counts studies and patients.

    Args:
        predictions: columns of the predictions, which hold the studies of validation and test parts.
        summary: `Summary`.

    Returns:
        dict of `studies` and `patients`: as the summary says, or else those of the predictions. Patients are left out
        if the predictions lack some of the studies.

    Example:
        >>> import numpy as np
        >>> predictions = {"study": np.array(["1", "1", "2"]), "patient": np.array(["a", "a", "a"])}
        >>> count_data(predictions, {"studies": {"train": 1, "test": 1}})
        {'studies': 2, 'patients': 1}
        >>> count_data(predictions, {"studies": {"train": 8, "test": 2}})
        {'studies': 10}
    """
    data = summary.get("data") or {}
    seen, patients = (len(np.unique(predictions[column])) for column in ("study", "patient"))
    studies = data.get("studies") or sum((summary.get("studies") or {}).values()) or seen
    counts = {"studies": studies, "patients": data.get("patients") or (patients if studies == seen else 0)}
    return {name: int(count) for name, count in counts.items() if count}


def list_methods(comparison: Columns, predictions: Columns, summary: Summary) -> list[str]:
    """Lists the sentences of the methods paragraph; `{cite:KEY}` marks where a reference belongs.

    Args:
        comparison, predictions: columns of the comparison.
        summary: `Summary`.

    Returns:
        list of str.
    """
    data, models = summary.get("data") or {}, list_values(comparison["model"])
    titles = [title_within(name) for name in models if not name.startswith("joint-")]
    counts = _join([f"{count} {name}" for name, count in count_data(predictions, summary).items()], "of")
    where = f" on {counts}" if counts else ""
    sentences = [f"We compared these models and baselines{where} with kmm {{cite:kmm}}: {_join(titles)}."]
    if data.get("sections"):
        sentences.append(f"The text models read the sections {_join(data['sections'])} of each report.")
    sentences += [*_describe_vector(summary), *_describe_heads(summary)]
    if resampling := summary.get("resampling"):
        kept = "" if resampling.get("plain") else f"; studies that share {GROUPED_BY} were kept in one part"
        sentences.append(
            f"All models were trained and tested on the same {describe_resampling(resampling)}{kept}. The epoch, the "
            "temperature and the threshold were chosen on the validation part, and each test part was measured once."
        )
    if summary.get("protocol") in ("high", "low"):
        but = ", with these deviations." if summary.get("reduced") else "."
        sentences.append(f'Training followed the protocol "{summary["protocol"]}" {{cite:aydin2019}}{but}')
    sentences += summary.get("reduced") or []
    return sentences + _describe_sizes(summary) + _list_tests(summary) + _list_results(summary) + state_wanted(summary)


def _describe_sizes(summary):
    """Says in one sentence which sizes were compared, and how curves were fitted."""
    sizes = summary.get("sizes")
    if not sizes or not sizes["smaller"]:
        return []
    return [
        f"All models were also trained on nested, stratified subsets of {_join(sizes['smaller'])} training studies, "
        "with validation parts made smaller in proportion and the same test parts, and an inverse power law was fitted "
        "to each metric by least squares, weighted by the rank of the size {cite:figueroa2012}; its intervals take "
        "splits as units and are corrected for their overlap."
    ]


HEADS = {
    "linear": "a linear layer on the standardised vectors of the encoders",
    "mlp": "a linear layer and a dense decoder on the standardised vectors of the encoders",
    "decoder": "a dense decoder",
}


def _describe_vector(summary):
    """Says over which feature maps and cells the vector of a film is averaged, if a fit has films and says so."""
    data = summary.get("data") or {}
    depths, grid = data.get("image_depths"), data.get("image_grid")
    if data.get("image_encoder") is None or not depths or not grid:
        return []
    maps = "the last feature map" if depths == 1 else f"{depths} feature maps"
    cells = "" if grid == 1 else f" over each cell of a grid of {grid} x {grid}"
    return [f"The vector of a film has the means of {maps} of the image encoder ({data['image_encoder']}){cells}."]


def _describe_heads(summary):
    """Names the head of the models, says how the penalty of the linear ones was chosen, and what taught them."""
    data, models = summary.get("data") or {}, summary.get("models") or {}
    head, linear = data.get("head"), data.get("head") in ("linear", "mlp")
    found = [f"Each model ends in {HEADS[head]}."] if head in HEADS else []
    if linear:
        found.append(
            "It starts from an L2-regularised logistic regression on these vectors, and was kept as training left it "
            "only where the log loss on validation was lower by more than one standard error."
        )
    if linear or any("image-linear" in names for names in models.values()):
        found.append("The penalty of each logistic regression on features was chosen on the validation part.")
    for side in ("text", "image"):
        if weight := data.get(f"{side}_teacher"):
            found.append(
                f"The training labels of the {side} model were mixed, with a weight of {weight:g}, with the "
                "out-of-fold probabilities of logistic regression on TF-IDF of the reports."
            )
    return found


def _list_tests(summary):
    used = set(list_references(summary))
    sentences = []
    if "nadeau2003" in used:
        keys = ",".join(key for key in ("nadeau2003", "bouckaert2004") if key in used)
        holm = ", and p values were adjusted within each family by Holm's method {cite:holm1979}"
        sentences.append(
            "Intervals of means and differences over splits, and tests of differences, use the corrected resampled "
            f"t-test {{cite:{keys}}}{holm if 'holm1979' in used else ''}."
        )
    if any(found.get("restricted") for found in summary.get("differences") or ()):
        sentences.append(
            "Two models were compared on the studies that both were measured on; a model of films has no result for a "
            "study without a film, nor a model of reports for one without a report."
        )
    if "delong1988" in used:
        sentences.append(
            "Areas under the ROC curve within one split were compared by DeLong's test, with the studies of a patient "
            "as one observation {cite:delong1988,obuchowski1997}."
        )
    further = {
        "mcnemar1947": "Accuracies within one split were compared by McNemar's test {cite:mcnemar1947}.",
        "shapley1953": "What film and report each give is their Shapley value as two players {cite:shapley1953}.",
        "geifman2017": "Selective prediction is described by risk and coverage {cite:geifman2017}.",
        "vickers2006": "Decision curves show net benefit {cite:vickers2006}.",
    }
    return sentences + [sentence for key, sentence in further.items() if key in used]


def _list_results(summary):
    answers = state_answers(summary)
    found = []
    for answer in answers:
        where = f"With {title_variant(answer.variant)}: " if answer.variant else ""
        found += [f"{where}{answer.sentences[0]}", *answer.sentences[1:], *answer.cautions]
    return found


def write_methods(comparison: Columns, predictions: Columns, summary: Summary) -> str:
    """Writes the methods paragraph as Markdown, with citations as Pandoc reads them, and the command.

    Args:
        comparison, predictions: columns of the comparison.
        summary: `Summary`.

    Returns:
        str, with a newline at the end. The keys of the citations are those of `references.bib`.
    """
    lines = ["# Methods", cite_in_markdown(" ".join(map(_escape, list_methods(comparison, predictions, summary))))]
    if command := show_command(summary):
        lines += ["Command:", f"    {command}"]
    return "\n\n".join(lines) + "\n"


def write_plain_methods(comparison: Columns, predictions: Columns, summary: Summary) -> str:
    """Writes the methods paragraph as plain text, with authors and years.

    Args:
        comparison, predictions: columns of the comparison.
        summary: `Summary`.

    Returns:
        str, one paragraph.
    """
    return cite_in_words(" ".join(list_methods(comparison, predictions, summary)))


def show_command(summary: Summary) -> str:
    """Returns the command line of a comparison, quoted for a shell: as given, or else what the results tell of it.

    Example:
        >>> show_command({"command": ["kmm", "compare", "my films"]})
        "kmm compare 'my films'"
        >>> show_command({"protocol": "high", "variants": {"pixels=64": {}, "pixels=96": {}}})
        "kmm compare FOLDER --out OUT --protocol high --vary 'pixels=64|96'"
    """
    command = summary.get("command") or _rebuild_command(summary)
    return " ".join((command if isinstance(command, str) else shlex.join(command)).split())


def _rebuild_command(summary):
    """Lists the words of a command with the same protocol, splits and variants; empty if the protocol is unknown."""
    if not summary.get("protocol"):
        return []
    resampling = summary.get("resampling") or {}
    words = ["kmm", "compare", "FOLDER", "--out", "OUT", "--protocol", summary["protocol"]]
    for name, least in (("folds", 1), ("splits", 1), ("repeats", 2)):
        if (resampling.get(name) or 0) >= least:
            words += [f"--{name}", str(resampling[name])]
    words += ["--plain-split"] if resampling.get("plain") else []
    if sizes := summary.get("sizes"):
        words += ["--sizes", ",".join(map(str, sizes["smaller"]))] if sizes["smaller"] else ["--sizes"]
        words += ["--wanted", f"{sizes['wanted']:g}"] if sizes["wanted"] is not None else []
    given = summary.get("given") or {}
    words += ["--preset", given["preset"]] if given.get("preset") else []
    words += ["--tune"] if given.get("tune") else []
    for name, value in (given.get("settings") or {}).items():
        words += ["--set", f"{name}={value}"]
    variations: dict[str, dict[str, None]] = {}
    for variant in filter(None, summary.get("variants") or {}):
        for name, _, value in (part.partition("=") for part in variant.split(";")):
            variations.setdefault(name, {})[value] = None
    for name, values in variations.items():
        words += ["--vary", f"{name}={'|'.join(values)}"]
    return words


def _join(words, last="and"):
    words = list(map(str, words))
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def _escape(text):
    """Escapes what Markdown and HTML would read as markup, and keeps one line."""
    line = " ".join(text.split())
    for letter in "\\`*_<>[]|#":
        line = line.replace(letter, f"\\{letter}")
    return line
