"""Privacy report of an export: traces of the training patients and of this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm.errors import InputError
from kmm.evaluate.result_files import describe_sources
from kmm.export.samples import make_reports
from kmm.export.traces import SHORTEST_ID, SHORTEST_IN_NUMBERS, IdSearch, PathSearch, read_ids
from kmm.export.warmup import PLACE as WARMUP
from kmm.export.warmup import read_warmup_reports
from kmm.storage.archive import peek_description
from kmm.storage.classifier_folder import digest_file
from kmm.text.vocabulary import SPECIAL_WORDS

VOCABULARY, CARD = "assets/vocabulary.txt", "assets.extra/model_card.md"
LONG_NUMBER = 4  # shortest word with a digit that may be a year, a date or a record number, in characters
MOST_WARMUP_ROWS = 1000
NUMBERS = ("variables/variables.data", WARMUP)  # weights and films, which contain any short byte sequence by chance


def report_privacy(export: Path, folder: Path, description: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Searches an export for traces of patients and of this machine.

    Args:
        export: Path of the export: the folder of a SavedModel, or a file of another format.
        folder: Path of the saved classifier that was exported.
        description: dict that the signature `describe` returns; None for a file, which has no such signature.

    Returns:
        dict for JSON:
            `files`: list of dict of `file`, `bytes` and `sha256`.
            `words`: result of `count_words`, or None without a vocabulary.
            `redaction`: number of entries of the redaction, which the export contains, or None.
            `name`, `labels`, `digest` (of the classifier's description) and `description` (its keys), or None.
            `mean_film`: bool, whether the export contains the mean of all training films.
            `image_weights`, `text_weights`: str, source and licence of the weights that the encoder started from, or
                None.
            `card`: bool, whether the export contains the model card.
            `warmup`: dict of `requests` and `made_up` (bool, whether all reports are from the phantom set), or None.
            `ids`: dict of `searched`, `short` and `plain_numbers`, the number of ids of each kind, and `found`, dict of
            file to the number of ids in it.
            `paths`: dict of file to the number of paths in it.
            `findings`: list of str, the reasons for which `require_privacy` rejects the export.
        The dict contains no word of a report, no id and no path.
    """
    if export.is_dir():
        files = {path.relative_to(export).as_posix(): path for path in sorted(export.rglob("*")) if path.is_file()}
    else:
        files = {f"model{export.suffix}": export}
    ids, paths = IdSearch(read_ids(folder / "split.csv")), PathSearch([folder, export.parent])
    found_ids = {name: ids.count_in(path, shortest=_find_shortest(name)) for name, path in files.items()}
    found_paths = {name: paths.count_in(path) for name, path in files.items()}
    report: dict[str, Any] = {
        "files": [
            {"file": name, "bytes": path.stat().st_size, "sha256": digest_file(path)} for name, path in files.items()
        ],
        "words": count_words(export / VOCABULARY, folder) if VOCABULARY in files else None,
        "redaction": _count_entries(description or {}),
        **{name: description and description.get(name) for name in ("name", "labels", "digest")},
        "description": description and sorted(description),
        "mean_film": ((description or {}).get("explain") or {}).get("baseline") == "mean",
        **describe_sources(peek_description(folder)["provenance"]),
        "card": CARD in files,
        "warmup": _describe_warmup(export) if WARMUP in files else None,
        "ids": {
            "searched": ids.count,
            "short": ids.short,
            "plain_numbers": ids.plain_numbers,
            "found": {name: count for name, count in found_ids.items() if count},
        },
        "paths": {name: count for name, count in found_paths.items() if count},
    }
    return report | {"findings": _list_findings(report)}


def count_words(vocabulary: Path, folder: Path) -> dict[str, int | None]:
    """Counts the words of an exported vocabulary, in all and by the number of patients that use them.

    Args:
        vocabulary: Path of the vocabulary's file.
        folder: Path of the saved classifier.

    Returns:
        dict of int: `vocabulary` (all words or pieces); `with_digits` (those of at least 4 characters with a digit,
        which may be a year, a date or a record number); `trained` (those seen in training), and among these
        `of_one_patient` and `of_fewer_than_5`; and `min_word_patients`. The last four are None for a classifier saved
        by a version of kmm that did not count patients.
    """
    words = [word for word in vocabulary.read_text(encoding="utf-8").split("\n")[len(SPECIAL_WORDS) :] if word]
    text = peek_description(folder)["provenance"].get("text") or {}
    counts = text.get("word_patients") or {}
    return {
        "vocabulary": len(words),
        "with_digits": sum(len(word) >= LONG_NUMBER and any(map(str.isdigit, word)) for word in words),
        "trained": counts.get("words"),
        **{name: counts.get(name) for name in ("of_one_patient", "of_fewer_than_5", "min_word_patients")},
    }


def _count_entries(description):
    text = (description.get("preparation") or {}).get("text") or {}
    return len(text["redact"]) if "redact" in text else None


def require_privacy(report: Mapping[str, Any]) -> None:
    """Rejects an export for which `report_privacy` lists findings.

    Raises:
        InputError: with all findings in one line.

    Example:
        >>> require_privacy({"findings": []})
        >>> require_privacy({"findings": ["saved_model.pb contains a path of this machine"]})
        Traceback (most recent call last):
        kmm.errors.InputError: Not exported: saved_model.pb contains a path of this machine.
    """
    if report["findings"]:
        raise InputError(f"Not exported: {'; '.join(report['findings'])}.")


def describe_privacy(report: Mapping[str, Any]) -> list[str]:
    """Formats the result of `report_privacy` as readable lines."""
    lines = [f"{file['file']}: {file['bytes']:,} bytes, sha256 {file['sha256']}" for file in report["files"]]
    lines.append(f"words: {_describe_words(report['words'])}")
    if report.get("redaction"):
        lines.append(f"redaction: {report['redaction']} entries, which anyone can read in the export")
    if report["description"]:
        lines += [
            f"name: {report['name']}; labels: {', '.join(report['labels'])}",
            f"description: {', '.join(report['description'])}; digest of the classifier {report['digest']}",
            f"model card: {_format_flag(report['card'])}; "
            f"mean of the training films: {_format_flag(report['mean_film'])}",
        ]
    for side in ("image", "text"):
        if found := report.get(f"{side}_weights"):
            lines.append(f"weights of the {side} encoder: {found}")
    if warmup := report["warmup"]:
        source = "reports of the phantom set" if warmup["made_up"] else "reports of unknown origin"
        lines.append(f"warm-up requests: {warmup['requests']}, films drawn at random, {source}")
    ids = report["ids"]
    found = sum(ids["found"].values())
    lines += [
        f"ids of studies and patients: {ids['searched']} searched for, {found} found; not searched for: "
        f"{ids['plain_numbers']} plain numbers, {ids['short']} of fewer than {SHORTEST_ID} characters",
        f"paths of this machine: {sum(report['paths'].values())}",
    ]
    return [*lines, *(f"finding: {finding}" for finding in report["findings"] or ["none"])]


def _describe_words(words):
    if words is None:
        return "none"
    digits = f"{words['with_digits']} of at least {LONG_NUMBER} characters with a digit"
    if words["trained"] is None:
        return f"{words['vocabulary']}; number of patients per word unknown; {digits}"
    return (
        f"{words['vocabulary']}, {words['trained']} seen in training: {words['of_one_patient']} of one patient, "
        f"{words['of_fewer_than_5']} of fewer than 5 (min_word_patients {words['min_word_patients']}); {digits}"
    )


def _find_shortest(name):
    return SHORTEST_IN_NUMBERS if name.startswith((*NUMBERS, "model.")) else SHORTEST_ID


def _describe_warmup(export):
    count, reports = read_warmup_reports(export)
    return {"requests": count, "made_up": reports <= set(make_reports(MOST_WARMUP_ROWS))}


def _list_findings(report):
    """Lists everything that a stranger could learn, each with its remedy."""
    words, findings = report["words"] or {"of_one_patient": 0}, []
    if words["of_one_patient"] is None:
        findings.append("the number of patients that use each word of the vocabulary is unknown: train again")
    elif words["of_one_patient"]:
        findings.append(
            f"the vocabulary contains {words['of_one_patient']} words that only one patient uses: train again with "
            "--min-word-patients 2"
        )
    findings += [
        f"{name} contains ids of studies or patients ({count}): remove them from the names of the model and the "
        "labels, or train again with a higher --min-word-patients"
        for name, count in report["ids"]["found"].items()
    ]
    findings += [
        f"{name} contains paths of this machine ({count}): remove them from the names of the model and the labels"
        for name, count in report["paths"].items()
    ]
    if report["warmup"] and not report["warmup"]["made_up"]:
        findings.append("the warm-up requests contain reports that are not from the phantom set: pass --warmup ''")
    return findings


def _format_flag(flag):
    return "yes" if flag else "no"
