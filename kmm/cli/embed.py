"""`kmm embed`: word vectors of a folder's reports."""

import click

from kmm.cli.command import LIST, PLACE, SEED, Command
from kmm.cli.output import check_place, list_problems, naming, tell_layout


@click.command(cls=Command)
@click.argument("folder", type=PLACE)
@click.option("--out", required=True, type=PLACE, help="File to write: .txt is word2vec text, .bin binary.")
@click.option("--dimensions", type=click.IntRange(1), default=300, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True)
@click.option("--sections", type=LIST, help="Comma-separated; all four sections when not given.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--cbow", is_flag=True, help="CBOW instead of skip-gram.")
@click.option(
    "--min-word-patients",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Patients who must use a word for the file to hold it; 1 keeps the words of one patient.",
)
@click.option("--split", type=PLACE, help="A split.csv: only its training studies are read.")
def embed(folder, out, dimensions, epochs, sections, seed, cbow, min_word_patients, split):
    """Train word vectors on the reports of FOLDER.

    Without --split all reports are read. Vectors for a fit should not know its test reports: give its split.csv; then
    it is also said how many of the words of its validation reports have a vector.
    Example: kmm embed openi --out vectors.txt --split saved_models/openi/split.csv
    """
    from kmm.batches import TextPreparation, gather_words
    from kmm.data.collection import read_collection
    from kmm.data.split import read_parts
    from kmm.settings import SECTIONS, expand_sections
    from kmm.text.vocabulary import count_patients, find_rare
    from kmm.text.word_vectors import check_suffix, train_word_vectors

    check_place(out)
    check_suffix(out)
    chosen = expand_sections(sections) if sections else SECTIONS
    collection = read_collection(folder)
    tell_layout(collection)
    parts = read_parts(split) if split else {}
    studies = [study for study in collection.studies if not split or parts.get(study.id) == "train"]
    documents, patients, problems = [], [], []
    for study in studies:
        words, refused = gather_words([study], TextPreparation(chosen))
        documents += words
        patients += [study.patient] * len(words)
        problems += refused
    others = [study for study in collection.studies if parts.get(study.id) == "validation"]
    unseen = [word for words in gather_words(others, TextPreparation(chosen))[0] for word in words]
    list_problems([*collection.problems, *problems])
    rare = find_rare(count_patients(documents, patients), min_word_patients)
    common = [[word for word in words if word not in rare] for words in documents]
    vectors = train_word_vectors(common, dimensions=dimensions, epochs=epochs, seed=seed, skip_gram=not cbow)
    with naming(out):
        vectors.save(out)
    read = f"from {len(documents)} reports of {sum(map(len, documents))} running words"
    click.echo(f"{out}: {len(vectors.words)} words, {vectors.vectors.shape[1]} dimensions, {read}")
    if rare:
        click.echo(f"{len(rare)} words of fewer than {min_word_patients} patients are left out")
    if unseen:
        known = set(vectors.words)
        share = sum(word in known for word in unseen) / len(unseen)
        click.echo(f"{share:.1%} of the {len(unseen)} running words of validation have a vector")
