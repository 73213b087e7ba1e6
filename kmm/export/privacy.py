"""What an export tells of the patients and the machine that its classifier comes from."""

from kmm.errors import InputError
from kmm.export.samples import make_reports
from kmm.export.traces import SHORTEST_ID, SHORTEST_IN_NUMBERS, IdSearch, PathSearch, read_ids
from kmm.export.warmup import PLACE as WARMUP
from kmm.export.warmup import read_warmup_reports
from kmm.storage.archive import peek_description
from kmm.storage.classifier_folder import digest_file
from kmm.text.vocabulary import SPECIAL_WORDS

VOCABULARY, CARD = "assets/vocabulary.txt", "assets.extra/model_card.md"
LONG_NUMBER = 4  # characters of a word with a digit that may be a year, a date or the number of a record
MOST_WARMUP_ROWS = 1000
NUMBERS = ("variables/variables.data", WARMUP)  # files of weights and films, which hold any few bytes by chance


def report_privacy(export, folder, description=None):
    """Looks an export through for what it tells of patients and of this machine.

    Args:
        export: Path of the export: the folder of a SavedModel, or a file of another format.
        folder: Path of the saved classifier that it was made from.
        description: dict that the signature `describe` answers with; None for a file, which has none.

    Returns:
        dict that JSON holds:
            `files`: list of dict of `file`, `bytes` and `sha256`.
            `words`: what `count_words` returns, or None without a vocabulary.
            `name`, `labels`, `digest` (of the classifier's description) and `description` (its keys), or None.
            `mean_film`: bool, whether the mean of all training films is in it.
            `card`: bool.
            `warmup`: dict of `requests` and `made_up` (bool, whether all reports are of the phantom set), or None.
            `ids`: dict of `searched`, `short` and `plain_numbers`, how many ids there are of each, and `found`, dict of
            file to how many stand in it.
            `paths`: dict of file to how many stand in it.
            `findings`: list of str, what `require_privacy` refuses.
        No word of a report, id or path stands in it.
    """
    if export.is_dir():
        files = {path.relative_to(export).as_posix(): path for path in sorted(export.rglob("*")) if path.is_file()}
    else:
        files = {f"model{export.suffix}": export}
    ids, paths = IdSearch(read_ids(folder / "split.csv")), PathSearch([folder, export.parent])
    found_ids = {name: ids.count_in(path, shortest=_find_shortest(name)) for name, path in files.items()}
    found_paths = {name: paths.count_in(path) for name, path in files.items()}
    told = {
        "files": [
            {"file": name, "bytes": path.stat().st_size, "sha256": digest_file(path)} for name, path in files.items()
        ],
        "words": count_words(export / VOCABULARY, folder) if VOCABULARY in files else None,
        **{name: description and description.get(name) for name in ("name", "labels", "digest")},
        "description": description and sorted(description),
        "mean_film": ((description or {}).get("explain") or {}).get("baseline") == "mean",
        "card": CARD in files,
        "warmup": _look_at_warmup(export) if WARMUP in files else None,
        "ids": {
            "searched": ids.count,
            "short": ids.short,
            "plain_numbers": ids.plain_numbers,
            "found": {name: count for name, count in found_ids.items() if count},
        },
        "paths": {name: count for name, count in found_paths.items() if count},
    }
    return told | {"findings": _list_findings(told)}


def count_words(vocabulary, folder):
    """Counts the words of an exported vocabulary, as far as the classifier knows how many patients use them.

    Args:
        vocabulary: Path of its file.
        folder: Path of the saved classifier.

    Returns:
        dict of int: `vocabulary` (words or pieces in all), `with_digits` (those of at least 4 characters with a digit:
        a year, a date, the number of a record); of those that training read, `trained` (in all), `of_one_patient` and
        `of_fewer_than_5`; and `min_word_patients`. The last four are None for a classifier that was saved before this
        was counted.
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


def require_privacy(report):
    """Refuses an export in which `report_privacy` found something.

    Raises:
        InputError: with all findings in one line.

    Example:
        >>> require_privacy({"findings": []})
        >>> require_privacy({"findings": ["saved_model.pb holds a path of this machine"]})
        Traceback (most recent call last):
        kmm.errors.InputError: Not exported: saved_model.pb holds a path of this machine.
    """
    if report["findings"]:
        raise InputError(f"Not exported: {'; '.join(report['findings'])}.")


def describe_privacy(report):
    """Writes what `report_privacy` returned as lines for people: list of str."""
    lines = [f"{one['file']}: {one['bytes']:,} bytes, sha256 {one['sha256']}" for one in report["files"]]
    lines.append(f"words: {_describe_words(report['words'])}")
    if report["description"]:
        lines += [
            f"name: {report['name']}; labels: {', '.join(report['labels'])}",
            f"description: {', '.join(report['description'])}; digest of the classifier {report['digest']}",
            f"model card: {_say(report['card'])}; mean of the training films: {_say(report['mean_film'])}",
        ]
    if warmup := report["warmup"]:
        source = "reports of the phantom set" if warmup["made_up"] else "reports from elsewhere"
        lines.append(f"warm-up requests: {warmup['requests']}, films drawn at random, {source}")
    ids = report["ids"]
    found = sum(ids["found"].values())
    lines += [
        f"ids of studies and patients: {ids['searched']} looked for, {found} found; not looked for: "
        f"{ids['plain_numbers']} plain numbers, {ids['short']} of fewer than {SHORTEST_ID} characters",
        f"paths of this machine: {sum(report['paths'].values())}",
    ]
    return [*lines, *(f"found: {finding}" for finding in report["findings"] or ["nothing that is refused"])]


def _describe_words(words):
    if words is None:
        return "none"
    digits = f"{words['with_digits']} of at least {LONG_NUMBER} characters with a digit"
    if words["trained"] is None:
        return f"{words['vocabulary']}; how many patients use each is not known; {digits}"
    return (
        f"{words['vocabulary']}, {words['trained']} read in training: {words['of_one_patient']} of one patient, "
        f"{words['of_fewer_than_5']} of fewer than 5 (min_word_patients {words['min_word_patients']}); {digits}"
    )


def _find_shortest(name):
    return SHORTEST_IN_NUMBERS if name.startswith((*NUMBERS, "model.")) else SHORTEST_ID


def _look_at_warmup(export):
    count, reports = read_warmup_reports(export)
    return {"requests": count, "made_up": reports <= set(make_reports(MOST_WARMUP_ROWS))}


def _list_findings(told):
    """What a stranger could learn, each with how to mend it."""
    words, findings = told["words"] or {"of_one_patient": 0}, []
    if words["of_one_patient"] is None:
        findings.append("how many patients use each word of the vocabulary is not known: train the classifier again")
    elif words["of_one_patient"]:
        findings.append(
            f"words of one patient are in the vocabulary ({words['of_one_patient']}): train again with "
            "--min-word-patients 2"
        )
    findings += [
        f"ids of studies or patients are in {name} ({count}): take them out of the names of the model and the labels, "
        "or train again with a higher --min-word-patients"
        for name, count in told["ids"]["found"].items()
    ]
    findings += [
        f"paths of this machine are in {name} ({count}): take them out of the names of the model and the labels"
        for name, count in told["paths"].items()
    ]
    if told["warmup"] and not told["warmup"]["made_up"]:
        findings.append("the warm-up requests hold reports from elsewhere than the phantom set: pass --warmup ''")
    return findings


def _say(flag):
    return "yes" if flag else "no"
