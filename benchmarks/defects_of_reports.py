"""Defects of published systems in reading reports, on reports of the phantom set and on simulated sentences.

Each function returns two numbers: the right result, which kmm's own reading gives, and the result with the defect.
"""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import keras
import numpy as np

from kmm.batches import BatchMaker, TextPreparation
from kmm.data.labels import label_studies
from kmm.data.phantom.report import FINDINGS, Lesion, compose_report
from kmm.data.study import Study
from kmm.evaluate.metrics import METRICS
from kmm.models.build import ModelSpec, build_model
from kmm.models.loss import LOSSES
from kmm.settings import SECTIONS
from kmm.text.clean import find_words
from kmm.text.redaction import Redaction
from kmm.text.tfidf import TfidfBaseline
from kmm.text.vocabulary import Vocabulary

ABNORMAL = 0.65  # share of abnormal reports, as in Open-i
LENGTH, EPOCHS = 60, 12
PRESENT = np.float32([0, 1])
SPEC = ModelSpec(
    text_encoder="text-cnn", length=LENGTH, embedding_size=16, text_filters=16, text_dropout=0.2, fusion_units=16
)
WORD_LIST = ("normal", "abnormal", "unremarkable")  # of which a published system cleans the reports


def write_reports(n, seed):
    """Composes phantom reports, of which a share of `ABNORMAL` states a lesion; returns a list of `Study`."""
    rng = np.random.default_rng(seed)
    studies = []
    for number, abnormal in enumerate(rng.permutation(np.arange(n) < round(ABNORMAL * n))):
        side, zone = rng.choice(["left", "right"]), rng.choice(["upper", "middle", "lower"])
        lesions = [Lesion(str(rng.choice(list(FINDINGS))), str(side), str(zone))] if abnormal else []
        report, _ = compose_report(lesions, rng, abnormal=bool(abnormal))
        studies.append(Study(str(number), str(number), report=report, labels={"abnormal": float(abnormal)}))
    return studies


def list_labels(studies):
    return np.array([study.labels["abnormal"] for study in studies])


class Reader(NamedTuple):
    """A text model trained on reports.

    Attributes:
        model: `keras.Model`, the text model of kmm, or that with a softmax over its single output.
        before: list of arrays, its trainable weights before the training.
        maker: `BatchMaker` with the vocabulary of the training reports.
        test: list of `Study`.
    """

    model: keras.Model
    before: list[np.ndarray]
    maker: BatchMaker
    test: list[Study]

    def encode(self, studies, vocabulary=None):
        """Returns the model's inputs for studies, with its own vocabulary or another one."""
        maker = BatchMaker(None, self.maker.text, vocabulary=vocabulary or self.maker.vocabulary, label_names=())
        ids = np.array([maker.token_ids(study) for study in studies])
        return {"token_ids": ids, "present": np.tile(PRESENT, (len(ids), 1))}


def copy_weights(model):
    """Copies what training may change; statistics of batches change by themselves."""
    return [keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]


def measure_crossentropy(labels, probabilities):
    """Computes the binary cross-entropy of probabilities, as a formula.

    That of Keras 3 takes the logits from before an activation, whichever it is, on TensorFlow: it would train the model
    as if it ended in a sigmoid, with outputs that are 1 all the same.
    """
    p = keras.ops.clip(probabilities, 1e-7, 1 - 1e-7)
    return -keras.ops.mean(labels * keras.ops.log(p) + (1 - labels) * keras.ops.log(1 - p), axis=-1)


@cache
def train_reader(*, softmax=False):
    """Trains a text model as kmm does, or with a softmax over its single output and the cross-entropy of that."""
    train, test, text = write_reports(500, 0), write_reports(300, 1), TextPreparation(length=LENGTH)
    vocabulary = Vocabulary.fit(map(text.words, train))
    model = build_model(SPEC, label_count=1, vocabulary_size=len(vocabulary), seed=0)
    loss = LOSSES["bce"].build()
    if softmax:
        model = keras.Model(model.input, keras.layers.Softmax()(model.output))
        loss = measure_crossentropy
    reader = Reader(
        model, copy_weights(model), BatchMaker(None, text, vocabulary=vocabulary, label_names=("abnormal",)), test
    )
    model.compile(keras.optimizers.Adam(3e-3), loss)
    labels = list_labels(train)[:, None].astype(np.float32)
    keras.utils.set_random_seed(0)  # of the order of reports and of dropout
    model.fit(reader.encode(train), labels, batch_size=32, epochs=EPOCHS, verbose=0)
    return reader


def measure_accuracy(reader, vocabulary=None, threshold=0.0):
    output = reader.model.predict(reader.encode(reader.test, vocabulary), verbose=0)[:, 0]
    return float(np.mean((output >= threshold) == list_labels(reader.test)))


def end_in_softmax():
    """Measures the accuracy of a text model with one logit and a sigmoid, and with a softmax over one output."""
    return measure_accuracy(train_reader()), measure_accuracy(train_reader(softmax=True), threshold=0.5)


def refit_vocabulary():
    """Measures the accuracy if test reports are read with the words of training, and with words of their own."""
    reader = train_reader()
    others = Vocabulary.fit(map(reader.maker.text.words, reader.test))
    return measure_accuracy(reader), measure_accuracy(reader, others)


def write_sentences(n, seed):
    """Writes sentences that state or deny a finding; returns texts and labels, 1 if it is stated."""
    rng = np.random.default_rng(seed)
    stated = rng.permutation(np.arange(n) % 2 == 1)
    findings, sides = rng.choice(["effusion", "nodule", "opacity"], n), rng.choice(["left", "right"], n)
    texts = [
        f"There is {'a' if has else 'no'} {finding} on the {side}."
        for has, finding, side in zip(stated, findings, sides)
    ]
    return texts, stated.astype(float)


def drop_stop_words():
    """Measures TF-IDF on sentences that keep, and that lose, "no" and "not"."""

    def measure(cleaning):
        (texts, labels), (others, truth) = (
            ([" ".join(word.text for word in find_words(text, cleaning)) for text in texts], labels)
            for texts, labels in (write_sentences(200, 3), write_sentences(200, 4))
        )
        return measure_auc(truth, TfidfBaseline.fit(texts, labels[:, None]).predict(others)[:, 0])

    return measure("standard"), measure("paper")


def mine_labels():
    """Measures TF-IDF that learned labels found by phrases in its own text, without heed to "no".

    The first number is against what the reports state, the second one, which would be published, against the phrases.
    """
    phrases = ("effusion", "nodule")

    def mine(texts):
        return np.array([float(any(phrase in text for phrase in phrases)) for text in texts])

    (texts, _), (others, truth) = write_sentences(400, 5), write_sentences(400, 6)
    stated = truth * mine(others)
    scores = TfidfBaseline.fit(texts, mine(texts)[:, None]).predict(others)[:, 0]
    return measure_auc(stated, scores), measure_auc(mine(others), scores)


def remove_words():
    """Measures what words give away: of the sections known before the film is read, and of all without a word list."""
    train, test = write_reports(600, 7), write_reports(400, 8)

    def measure(text):
        texts, others = ([text.redacted_text(study) for study in studies] for studies in (train, test))
        return measure_auc(
            list_labels(test), TfidfBaseline.fit(texts, list_labels(train)[:, None]).predict(others)[:, 0]
        )

    return measure(TextPreparation(sections=("indication",))), measure(TextPreparation(redaction=Redaction(WORD_LIST)))


def label_by_word(studies):
    """Labels studies as a published system did: abnormal if the report nowhere contains `normal`."""
    text = TextPreparation(sections=SECTIONS)
    return np.array([float("normal" not in text.text(study).lower()) for study in studies])


def take_labels_from_a_word():
    """Measures the share of labels that are right: of annotations, as kmm reads them, and of a word of the report."""
    studies, headings = write_reports(1000, 9), {0.0: ("normal",), 1.0: ("Opacity/lung",)}
    truth = list_labels(studies)
    annotated = [replace(study, mesh_major=headings[label], labels={}) for study, label in zip(studies, truth)]
    labelled, _ = label_studies(annotated)
    return float(np.mean(list_labels(labelled) == truth)), float(np.mean(label_by_word(studies) == truth))


def measure_auc(labels, scores):
    return float(METRICS["roc_auc"].measure(labels, scores, scores))
