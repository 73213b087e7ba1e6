"""Choice between a linear model of a side's features and what training makes of it, by the loss on validation.

A side whose encoder has weights from elsewhere starts from a linear probe of its features; one that is trained from its
start gets the probe of its trained features as a rival. The joint model starts as the weighted sum of both sides, which
is its linear start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from kmm.evaluate.linear_probe import weigh_losses
from kmm.models.fusion import FUSIONS
from kmm.models.heads import HEADS
from kmm.models.views.feature_view import view_features
from kmm.training.features import Features
from kmm.training.linear_start import choose_present, write_probe
from kmm.training.run_context import RunContext
from kmm.training.stages.fit_stage import weigh_linear
from kmm.training.stages.recipe import FEATURES, Stage

LINEAR, SUM = "linear", "sum"  # names of the linear start, of one side and of both


@dataclass
class Candidate:
    """A state of a model.

    Attributes:
        name: str. `LINEAR`, `SUM`, or the stage that ended in it.
        losses: float64 `(k,)`, the log loss of each validation study that counts.
        weights: list of arrays, those of the model.
    """

    name: str
    losses: np.ndarray
    weights: list[np.ndarray] = field(repr=False)


class HeadChoice:
    """The states of the model of a side, of which one is kept.

    A trained state replaces the linear one only if its mean log loss on validation is lower by more than one standard
    error of the difference: the standard deviation of the paired differences of the studies' losses, divided by the
    square root of their number. Among the trained states that do, the one of the lowest loss is kept. Validation
    decides so much (the penalty of the probe, the epoch) that a smaller difference says nothing.

    Args:
        context: `RunContext`.
        stages: sequence of `Stage` of the side.
        model: `keras.Model` of the side, changed in place.
        features: `Features` of the run.
    """

    def __init__(self, context: RunContext, stages: Sequence[Stage], model: keras.Model, features: Features) -> None:
        self.context, self.side, self.model, self.features = context, stages[0].side, model, features
        self.stage = stages[0]
        self.strengths: tuple[float | None, ...] = ()
        self.linear: Candidate | None = None
        self.kept: Candidate | None = None
        self.found: dict[str, dict[str, float | None]] = {}

    def start(self) -> None:
        """Takes the state of the model as the linear one; writes it first, unless the model has both sides."""
        if self.side != "joint":
            self.strengths = write_probe(self.context, self.side, self.model, self.features, self._class_weights())
        self.linear = self.kept = self._measure(SUM if self.side == "joint" else LINEAR)
        self._note(self.linear, None, None)

    def judge(self, name: str) -> None:
        """Compares the model as a stage has left it with the linear start. The next stage goes on from here."""
        found = self._measure(name)
        if self.linear is None or self.kept is None:  # trained from its start: the linear rival comes last
            self.kept = found
            return
        difference, error = compare_losses(self.linear.losses, found.losses)
        self._note(found, difference, error)
        if is_better(difference, error) and found.losses.mean() < self.kept.losses.mean():
            self.kept = found

    def finish(self) -> dict[str, Any]:
        """Ends the choice: gives a side that was trained from its start its linear rival, sets the model to the state
        that is kept, and notes it.

        Returns:
            dict of the side to its facts: `kept`, the name of the state; `losses`, for each state its `loss` on
            validation and, of trained ones, `difference` from the linear one and `standard_error`; `studies` of
            validation; `strengths` of the penalty, one per label. Losses are None if validation has no study of the
            side; then the linear state is kept.
        """
        if self.linear is None:
            self._add_rival()
        assert self.linear is not None and self.kept is not None
        self.model.set_weights(self.kept.weights)
        facts = {
            "kept": self.kept.name,
            "losses": self.found,
            "studies": len(self.linear.losses),
            "strengths": list(self.strengths),
        }
        self.context.progress.note(describe_choice(self.side, facts))
        return {self.side: facts}

    def _add_rival(self):
        trained = self.kept or self._measure("untrained")
        self.start()
        difference, error = compare_losses(self.linear.losses, trained.losses)
        self._note(trained, difference, error)
        if is_better(difference, error):
            self.kept = trained

    def _note(self, found, difference, error):
        loss = float(found.losses.mean()) if len(found.losses) else None
        more = {} if found is self.linear else {"difference": difference, "standard_error": error}
        self.found[found.name] = {"loss": loss, **more}

    def _class_weights(self):
        targets = self.context.targets_of(self.side)
        return weigh_linear(self.stage, targets[self.context.rows("train")])

    def _measure(self, name):
        """Returns the state of the model, with its losses on validation."""
        losses = measure_model(self.context, self.side, self.model, self.features, self._class_weights())
        return Candidate(name, losses, self.model.get_weights())


class NoChoice:
    """Stands for a `HeadChoice` where the head has no linear part: what training makes is kept."""

    def judge(self, name: str) -> None:
        """Keeps the model as it is."""

    def finish(self) -> dict[str, Any]:
        """Returns no facts."""
        return {}


def open_choice(
    context: RunContext, stages: Sequence[Stage], model: keras.Model, features: Features
) -> HeadChoice | NoChoice:
    """Begins the choice for a side, before its first stage.

    A side that the first stage reads as features, or whose encoder has weights from elsewhere, is set to its linear
    probe. The joint model is taken as it is: as the sum of both sides.

    Args:
        context, stages, model, features: as for `HeadChoice`; there is at least one stage.

    Returns:
        `HeadChoice`; `NoChoice` if the head or the fusion has no linear part.
    """
    s, first = context.settings, stages[0]
    if not HEADS[s.head].linear or "vector" not in FUSIONS[s.fusion].needs:
        return NoChoice()
    choice = HeadChoice(context, stages, model, features)
    given = first.side == "image" and bool(s.image_weights)
    if first.side == "joint" or given or first.encoder(first.side) == FEATURES:
        choice.start()
    return choice


def measure_model(
    context: RunContext, side: str, model: keras.Model, features: Features, class_weights: np.ndarray | None = None
) -> np.ndarray:
    """Measures a model of a side on the validation studies that have the side.

    Args:
        context, features: as for `HeadChoice`.
        side: str, `"image"`, `"text"` or `"joint"`.
        model: `keras.Model`.
        class_weights: as for `measure_losses`.

    Returns:
        as `measure_losses`; empty if validation has no such study.
    """
    rows = choose_present(context, side, "validation")
    if not len(rows):
        return np.zeros(0)
    known = features.recall(model)
    sides = tuple(dict.fromkeys(column.partition("_")[0] for column in known))
    view = view_features(model, sides) if sides else model
    return measure_losses(context.predict(view, rows, known), context.prepared.labels[rows], class_weights)


def measure_losses(logits: np.ndarray, labels: np.ndarray, class_weights: np.ndarray | None = None) -> np.ndarray:
    """Returns the log loss of each study with a known label, the mean over its known labels: float64 `(k,)`.

    Args:
        logits, labels: arrays `(n, n_labels)`; labels NaN where unknown.
        class_weights: array `(n_labels, 2)`, the weights of a 0 and of a 1; None for weights of 1.

    Example:
        >>> measure_losses(np.zeros((2, 2)), np.array([[1.0, np.nan], [np.nan, np.nan]])).round(3).tolist()
        [0.693]
    """
    known = np.isfinite(labels)
    weights = np.ones((labels.shape[1], 2)) if class_weights is None else np.asarray(class_weights, np.float64)
    losses = weigh_losses(np.asarray(logits, np.float64), np.where(known, labels, 0.0), weights)
    counted = known.sum(axis=1)
    return np.where(known, losses, 0.0)[counted > 0].sum(axis=1) / counted[counted > 0]


def compare_losses(first: np.ndarray, second: np.ndarray) -> tuple[float | None, float | None]:
    """Compares the losses of two models on the same studies.

    Args:
        first, second: float arrays `(k,)`.

    Returns:
        the mean of `first - second` and its standard error; None for what too few studies leave open.

    Example:
        >>> compare_losses(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0]))
        (1.0, 0.0)
    """
    differences = first - second
    count = len(differences)
    error = float(differences.std(ddof=1) / np.sqrt(count)) if count > 1 else None
    return (float(differences.mean()) if count else None), error


def is_better(difference: float | None, error: float | None) -> bool:
    """Returns whether a difference is above one standard error; False if either is not known."""
    return difference is not None and error is not None and difference > error


def describe_choice(side: str, facts: dict[str, Any]) -> str:
    """Describes a choice in one line for the user.

    Args:
        side: str.
        facts: dict of `HeadChoice.finish`.

    Example:
        >>> trained = {"loss": 0.56, "difference": 0.01, "standard_error": 0.02}
        >>> print(describe_choice("image", {"kept": "linear", "losses": {"linear": {"loss": 0.57}, "image": trained}}))
        Head of image: linear is kept, validation loss 0.5700; image 0.5600, better by 0.0100 (standard error 0.0200)
    """
    losses = facts["losses"]
    ordered = sorted(losses.items(), key=lambda item: item[0] != facts["kept"])

    def describe(name, found):
        if found["loss"] is None:
            return f"{name} not measured"
        text = f"{name} {found['loss']:.4f}" if name != facts["kept"] else f"validation loss {found['loss']:.4f}"
        if found.get("difference") is None or found.get("standard_error") is None:
            return text
        if found["difference"] == found["standard_error"] == 0:
            return f"{name} ended as it began"
        word, size = ("better" if found["difference"] > 0 else "worse"), abs(found["difference"])
        return f"{text}, {word} by {size:.4f} (standard error {found['standard_error']:.4f})"

    return f"Head of {side}: {facts['kept']} is kept, " + "; ".join(describe(*item) for item in ordered)
