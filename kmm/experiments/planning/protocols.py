"""Protocols of a comparison: learning rate, epochs and splits, as published or shortened, one table entry each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kmm.settings import FitSettings

PAPER = "https://arxiv.org/abs/1902.08888"
PUBLISHED = {  # vectors, network and targets of the publication
    "image_depths": 1,
    "image_grid": 1,
    "head": "decoder",
    "text_teacher": 0.0,
    "image_teacher": 0.0,
}


@dataclass(frozen=True)
class Protocol:
    """A row of the table `PROTOCOLS`.

    Attributes:
        about: str. Rate, epochs and splits in one line, for the help.
        splits: int. Number of splits unless the user says otherwise.
        epochs: int. Epochs of each stage.
        learning_rate: float or None. Rate of all stages; None keeps those of the settings.
        patience: int. Epochs without a better validation loss after which a stage ends.
        tunes: bool. Whether the joint model is trained with its encoders, in one stage, and not its head alone.
        source: str. Link to the publication; empty if there is none.
    """

    about: str
    splits: int
    epochs: int
    learning_rate: float | None = None
    patience: int = 10_000
    tunes: bool = True
    source: str = ""

    def settings(self, *, pretrained: bool, tune: bool) -> dict[str, Any]:
        """Returns the settings of the protocol.

        Args:
            pretrained: bool. Whether the image encoder starts from weights.
            tune: bool. Whether encoders with weights are trained too.

        Returns:
            dict of setting name to value. A protocol that tunes has one stage for the joint model, and for an image
            encoder that is tuned: everything that can be trained is trained in it. Stages end early for no reason,
            and every stage ends with the weights of its best epoch on validation. A published protocol has the
            vectors and the head of its publication, and no teacher.

        Example:
            >>> PROTOCOLS["high"].settings(pretrained=True, tune=False)["tune_image"]
            'none'
        """
        frozen = pretrained and not tune
        tuned = self.tunes or tune
        found: dict[str, Any] = {
            "text_epochs": self.epochs,
            "image_epochs": 0 if pretrained and tune else self.epochs,
            "joint_epochs": 0 if tuned else self.epochs,
            "tune_epochs": self.epochs if tuned else 0,
            "tune_image": "none" if frozen else "all",
            "batch_norm": "train",
            "patience": self.patience,
            **(PUBLISHED if self.source else {}),
        }
        if self.learning_rate is not None:
            names = ("learning_rate", "text_learning_rate", "tune_learning_rate")
            found |= {**dict.fromkeys(names, self.learning_rate), "schedule": "constant"}
        return found


PROTOCOLS = {
    "high": Protocol("rate 1e-2, 10 epochs, 10 splits", 10, 10, 1e-2, source=PAPER),
    "low": Protocol("rate 1e-5, 50 epochs, 3 splits", 3, 50, 1e-5, source=PAPER),
    "quick": Protocol("4 epochs per head, pretrained encoders frozen, 10 splits", 10, 4, tunes=False),
}


def list_deviations(
    name: str, settings: Mapping[str, FitSettings], *, tune: bool, splits: int, folds: bool, plain: bool
) -> list[str]:
    """Lists what a comparison does otherwise than the published protocol, in one sentence each.

    Args:
        name: str, a key of `PROTOCOLS`.
        settings: mapping of variant to its `FitSettings`.
        tune: bool. Whether pretrained encoders are trained.
        splits: int. Number of splits.
        folds: bool. Whether the splits are folds of a cross-validation.
        plain: bool. Whether the splits ignore patients and copies.

    Returns:
        list of str.

    Example:
        >>> from kmm.settings import FitSettings
        >>> quick = list_deviations("quick", {"": FitSettings()}, tune=False, splits=10, folds=False, plain=False)
        >>> quick[0]
        'The protocol quick is not from the paper: 4 epochs per head, pretrained encoders frozen, 10 splits.'
    """
    protocol, found = PROTOCOLS[name], []
    if not protocol.source:
        found.append(f"The protocol {name} is not from the paper: {protocol.about}.")
    if not tune and any(one.image_weights for one in settings.values()):
        found.append(
            "An image encoder with given weights stays frozen, so this is not the paper's end-to-end tuning; --tune "
            "trains it."
        )
    if folds or splits != protocol.splits:
        kind = f"{splits} splits of a cross-validation" if folds else f"{splits} repeated splits"
        whose = "paper" if protocol.source else "protocol"
        found.append(f"There are {kind}, and not the {protocol.splits} repeated splits of the {whose}.")
    if protocol.source and not plain:
        found.append(
            "Studies that share a patient, a film or a report body stay in one part; the paper splits study by study, "
            "which leaks (--plain-split)."
        )
    if plain:
        found.append(
            "The splits ignore patients, copies of films and copies of reports, as the paper's do: the results are too "
            "optimistic."
        )
    found += _list_changes(protocol, settings, tune)
    if protocol.source:
        found.append("The optimizer is Adam for every model; the paper trains its text model with Adadelta.")
    return found


def _list_changes(protocol, settings, tune):
    """Names the settings of the protocol that the user has changed in every variant."""
    changed = []
    for one in settings.values():
        wanted = protocol.settings(pretrained=bool(one.image_weights), tune=tune)
        changed.append({key for key, value in wanted.items() if getattr(one, key) != value})
    names = sorted(set.union(*changed)) if changed else []
    return [f"These settings are not those of the protocol: {', '.join(names)}."] if names else []
