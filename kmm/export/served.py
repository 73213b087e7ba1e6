"""A classifier as TensorFlow functions, one per signature."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow as tf

import kmm
from kmm.classifier import Classifier
from kmm.data.modalities import PATTERNS, find_patterns, list_patterns
from kmm.export.explanation import ExplainSignature, PathExplainer
from kmm.export.graph.batching import Batching
from kmm.export.graph.checks import check_batch, check_shape, require_rows
from kmm.export.graph.films import read_films
from kmm.export.graph.letterbox import find_boxes
from kmm.export.graph.reports import ReportReader
from kmm.export.graph.slices import wrap_slices
from kmm.models.fusion import find_features
from kmm.models.views.feature_view import view_joint
from kmm.models.views.parts import embed_of, fusion_of
from kmm.protocol import signatures as names

NOTHING = {
    (True, True): "expected a film or a report with words. Found neither.",
    (True, False): "expected a film. Found none.",
    (False, True): "expected a report with words. Found none.",
}


class ServedClassifier:
    """The functions behind the signatures, with the variables and the vocabulary that they use.

    Args:
        classifier: `Classifier`, loaded on TensorFlow.
        vocabulary: path of the vocabulary's file, or None for a model of films alone.
        explanation: `ExplainSignature`, or None to leave out explanations.
        batching: `Batching`, or None to run each call alone.
        default: key of `kmm.protocol.signatures.DEFAULT_SIGNATURES`.
        source: dict of further fields for the reply of `describe`.

    Attributes:
        held: `tf.Module` of the variables and the vocabulary, for `tf.saved_model.save`.
        signatures: dict of name to `kmm.protocol.signatures.Signature`.
        description: str. JSON that the signature `describe` returns.
    """

    def __init__(
        self,
        classifier: Classifier,
        vocabulary: Path | str | None,
        *,
        explanation: ExplainSignature | None = None,
        batching: Batching | None = None,
        default: str = "tensors",
        source: Mapping[str, Any] | None = None,
    ):
        self.batches = classifier.batches
        model = classifier.models[classifier.main]
        self.joint = view_joint(model)
        self._inputs = [tensor.name for tensor in self.joint.inputs]
        self.embed = embed_of(model)
        text = self.batches.text
        self.reader = ReportReader(text, vocabulary) if text and vocabulary is not None else None
        self.held = tf.Module()
        self.held.weights, self.held.reader = [variable.value for variable in model.variables], self.reader
        self.label_names = list(self.batches.label_names)
        self.temperatures = classifier.temperatures[classifier.main]
        self.thresholds = classifier.thresholds[classifier.main]
        # Every signature calls these two functions, which are traced once.
        self.read = tf.function(self._read, autograph=False)
        specs = [_make_spec(tensor) for tensor in self.joint.inputs]
        self.core = tf.function(self._run, specs, autograph=False)
        if batching:
            self.core = batching.wrap(self.core, self.joint)
        else:
            self.core = tf.function(wrap_slices(self.core, self.joint), specs, autograph=False)
        self.explain = None
        if explanation:
            self.explain = tf.function(PathExplainer(classifier, explanation).explain, autograph=False)
        self.description = self._write_description(classifier, explanation, source or {})
        self.signatures = names.list_signatures(
            pixels=self.batches.image.pixels if self.batches.image else None,
            length=self.batches.text.length if self.batches.text else None,
            label_count=len(self.label_names),
            feature_size=find_features(fusion_of(model)).shape[-1],
            default=default,
            explain=explanation is not None,
        )

    def _write_description(self, classifier, explanation, source):
        patterns = list_patterns(image=self._reads("image"), text=self._reads("text"))
        first = PATTERNS.index(patterns[0])
        calibration = {
            "temperatures": self.temperatures,
            "thresholds": self.thresholds,
            "prevalence": classifier.prevalence,
        }
        return json.dumps(
            {
                "kmm": kmm.__version__,
                "tensorflow": tf.__version__,
                "labels": self.label_names,
                "temperatures": self.temperatures[first].tolist(),
                "thresholds": self.thresholds[first].tolist(),
                "calibration": {
                    pattern: {name: table[PATTERNS.index(pattern)].tolist() for name, table in calibration.items()}
                    for pattern in patterns
                },
                "preparation": self.batches.as_dict(),
                "explain": asdict(explanation) if explanation else None,
                **source,
            }
        )

    def trace(self) -> dict[str, Any]:
        """Returns the concrete function of each signature, for `tf.saved_model.save`."""
        kinds = {
            "serving_tensors": lambda given: self._predict(*self._take_tensors(given)),
            "serving_bytes": lambda given: self._predict(*self._take_bytes(given)[:2]),
            "tf_example": lambda given: self._predict(*self._take_examples(given[names.EXAMPLES])),
            "classify": self._classify,
            "embed": lambda given: self._embed(*self._take_tensors(given)),
            "embed_bytes": lambda given: self._embed(*self._take_bytes(given)[:2]),
            "describe": self._describe,
            "explain": self._explain_tensors,
            "explain_bytes": self._explain_bytes,
        }
        return {name: _trace(kinds[one.kind], one) for name, one in self.signatures.items()}

    def _take_tensors(self, given):
        """Converts prepared tensors to the model's inputs and their presence `(n, 2)`."""
        inputs = {}
        if self.batches.image:
            image = given[names.IMAGE]
            finite = tf.reduce_all(tf.math.is_finite(image), axis=(1, 2, 3))
            with tf.control_dependencies(
                require_rows(finite, "image", "expected finite gray levels. Received: NaN or infinity.")
            ):
                inputs["image"] = tf.identity(image)
        if self.batches.text:
            ids, size = given[names.TOKEN_IDS], self.embed.get_layer("embedding").input_dim
            known = tf.reduce_all((ids >= 0) & (ids < size), axis=1)
            with tf.control_dependencies(
                require_rows(known, names.TOKEN_IDS, f"expected ids of words from 0 to {size - 1}.")
            ):
                inputs["token_ids"] = tf.identity(ids)
        return inputs, self._find_present(inputs)

    def _take_bytes(self, given):
        """Converts files and reports to the model's inputs, their presence `(n, 2)`, and the boxes and words read."""
        return self.read(given.get(names.IMAGE_BYTES), given.get(names.REPORT))

    def _read(self, files, reports):
        inputs, places = {}, {}
        if self.batches.image:
            inputs["image"], places[names.IMAGE_BOX] = read_films(files, self.batches.image)
        if self.batches.text:
            inputs["token_ids"], places[names.TOKEN_WORDS] = self.reader.read(reports)
        return inputs, self._find_present(inputs), places

    def _take_examples(self, examples):
        """Parses tf.Examples and returns as `_take_bytes`. A report is one text, or the model's sections."""
        sections = list(self.batches.text.sections) if self._reads("text") else []
        wanted = [names.IMAGE_BYTES] * self._reads("image") + ([names.REPORT, *sections] if sections else [])
        given = tf.io.parse_example(examples, {name: tf.io.FixedLenFeature((), tf.string, "") for name in wanted})
        if sections:
            apart = tf.strings.reduce_join(tf.stack([given[name] for name in sections]), axis=0, separator=" ")
            given[names.REPORT] = tf.where(tf.equal(given[names.REPORT], ""), apart, given[names.REPORT])
        return self._take_bytes(given)[:2]

    def _reads(self, side):
        return getattr(self.batches, side) is not None

    def _find_present(self, inputs):
        """Returns float32 `(n, 2)`: whether a pixel is not 0, and whether there are words. Rejects empty studies."""
        count = tf.shape(next(iter(inputs.values())))[0]
        none = tf.zeros(count, tf.bool)
        image = tf.reduce_any(inputs["image"] != 0, axis=(1, 2, 3)) if "image" in inputs else none
        text = tf.reduce_any(inputs["token_ids"] != 0, axis=1) if "token_ids" in inputs else none
        missing = NOTHING[self._reads("image"), self._reads("text")]
        with tf.control_dependencies(require_rows(image | text, "study", missing)):
            return tf.cast(tf.stack([image, text], axis=1), tf.float32)

    def _run(self, *values):
        found = self.joint(dict(zip(self._inputs, values, strict=True)), training=False)
        return found["logits"], found["features"]

    def _predict(self, inputs, present):
        return self._calibrate(self.core(*({**inputs, "present": present}[name] for name in self._inputs))[0], present)

    def _embed(self, inputs, present):
        return {names.FEATURES: self.core(*({**inputs, "present": present}[name] for name in self._inputs))[1]}

    def _calibrate(self, logits, present):
        """Calibrates as `kmm.classifier.probabilities` does, also in float64, so that decisions are the same."""
        scaled = tf.cast(logits, tf.float64) / self._choose(self.temperatures, present)
        probabilities = 0.5 * (1 + tf.tanh(0.5 * scaled))
        thresholds = self._choose(self.thresholds, present)
        return {
            names.PROBABILITIES: tf.cast(probabilities, tf.float32),
            names.LOGITS: logits,
            names.LABEL_NAMES: tf.broadcast_to(tf.constant(self.label_names), tf.shape(logits)),
            names.THRESHOLDS: tf.cast(thresholds, tf.float32),
            names.DECISIONS: probabilities >= thresholds,
        }

    def _choose(self, table, present):
        """Selects rows as `kmm.data.modalities.choose_rows` does: float64 `(n, n_labels)`."""
        return tf.gather(tf.constant(table, tf.float64), tf.cast(find_patterns(present), tf.int32))

    def _classify(self, given):
        found = self._predict(*self._take_examples(given[names.CLASSIFY_INPUT]))
        return {names.CLASSES: found[names.LABEL_NAMES], names.SCORES: found[names.PROBABILITIES]}

    def _describe(self, given):
        return {names.DESCRIPTION: tf.fill(tf.shape(given[names.QUERY]), self.description)}

    def _explain_tensors(self, given):
        inputs, present = self._take_tensors(given)
        boxes = find_boxes(inputs["image"], self.batches.image.fit) if "image" in inputs else None
        return self._explain(inputs, present, given[names.TARGET], boxes)

    def _explain_bytes(self, given):
        inputs, present, places = self._take_bytes(given)
        return {**self._explain(inputs, present, given[names.TARGET], places.get(names.IMAGE_BOX)), **places}

    def _explain(self, inputs, present, target, boxes):
        predicted = self._predict(inputs, present)
        target = self._choose_target(target, predicted[names.LOGITS], present)
        given, fixed, absent, padding_row = {}, {"present": present}, {}, None
        if "image" in inputs:
            given["image"], absent["image"] = inputs["image"], present[:, 0] == 0
        if "token_ids" in inputs:
            ids = inputs["token_ids"]
            given["rows"], absent["rows"] = tf.cast(self.embed(ids), tf.float32), present[:, 1] == 0
            padding_row = tf.cast(self.embed(tf.zeros_like(ids[:1])), tf.float32)[0, 0]
            fixed["padding_mask"] = tf.cast(ids != 0, tf.float32)
        found = self.explain(given, fixed, padding_row, target, absent, boxes)
        sides = {}
        if "image" in found:
            sides[names.IMAGE_ATTRIBUTION] = tf.reduce_sum(found["image"], axis=-1)
        if "rows" in found:
            sides[names.TOKEN_ATTRIBUTION] = tf.reduce_sum(found["rows"], axis=-1)
            sides[names.TOKEN_ENERGY] = tf.reduce_sum(tf.square(found["rows"]), axis=-1)
        numbers = {name: found[name] for name in (names.SCORE, names.BASELINE_SCORE, names.GAP, names.MAP_ERROR)}
        return {**predicted, **sides, names.TARGET: target, **numbers}

    def _choose_target(self, target, logits, present):
        """Returns the number of the label to explain; -1 selects the most probable label."""
        count = len(self.label_names)
        good = (target >= names.ANY_TARGET) & (target < count)
        expected = f"expected a label from 0 to {count - 1}, or {names.ANY_TARGET}: the most probable one."
        with tf.control_dependencies(require_rows(good, names.TARGET, expected)):
            scaled = tf.cast(logits, tf.float64) / self._choose(self.temperatures, present)
            best = tf.argmax(scaled, axis=1, output_type=tf.int32)
            return tf.where(target == names.ANY_TARGET, best, target)


def _make_spec(tensor):
    return tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name)


def _trace(function, signature):
    """Traces a function of a dict as a concrete function of named tensors, with checks of their shapes."""
    specs = {one.name: tf.TensorSpec(one.shape, tf.as_dtype(one.dtype), one.name) for one in signature.inputs}

    def call(**given):
        checked = {one.name: check_shape(given[one.name], one.name, one.shape) for one in signature.inputs}
        found = function(check_batch(checked, signature.most))
        return {one.name: tf.ensure_shape(found[one.name], one.shape, name=one.name) for one in signature.outputs}

    return tf.function(call, autograph=False).get_concrete_function(**specs)
