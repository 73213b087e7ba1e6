"""Context of a run: what all of its stages share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kmm.batches import BatchMaker
from kmm.classifier import run_model
from kmm.models import build
from kmm.models.cross.shape import CrossShape
from kmm.models.fusion import FUSIONS
from kmm.progress import Progress
from kmm.settings import FitSettings
from kmm.training.preparation.prepared_studies import PreparedStudies
from kmm.training.preparation.text_weights import TextWeights

if TYPE_CHECKING:
    from kmm.training.auxiliary.targets import AuxiliaryTarget

PREDICT_BATCH = 32


def find_shape(settings: FitSettings) -> CrossShape | None:
    """Returns the shape of the fusion that settings name; None for a fusion that has none.

    Example:
        >>> find_shape(FitSettings()) is None, find_shape(FitSettings(fusion="cross-attention", fusion_layers=1)).layers
        (True, 1)
    """
    if FUSIONS[settings.fusion].shape is None:
        return None
    names = ("layers", "heads", "width", "adapter")
    sizes = {name: getattr(settings, f"fusion_{name}") for name in names}
    return CrossShape(**sizes, stochastic_depth=settings.stochastic_depth)


@dataclass(frozen=True)
class RunContext:
    """Settings and data that all stages of a run share; they do not change during the run.

    Attributes:
        settings: `FitSettings`.
        prepared: `PreparedStudies`.
        maker: `kmm.batches.BatchMaker` with the vocabulary.
        token_ids: int32 `(n, length)`, those of the training part without rare words.
        vectors: float32 `(words, d)`, the initial rows of the embedding; None for a model without text.
        work: Path of the folder for the state of the run.
        cache: Path of the folder shared by all runs.
        progress: `kmm.progress.Progress`.
        callbacks: tuple of `keras.callbacks.Callback` for every stage.
        tensorboard: Path of a folder for TensorBoard logs, or None.
        shared: bool. Whether other runs, with other settings too, use the folder `work`, perhaps at the same time.
        members: tuple of int, the members of the image side, see `kmm.models.build.ModelSpec`; `(0,)` until they are
            trained, and where one encoder with one head is all of them.
        targets: dict of a side to what its model learns, float32 `(n, n_labels)`, where this is not the labels.
        text_weights: `TextWeights` of the text encoder, or None.
        auxiliary: dict of name to `AuxiliaryTarget`, of those that the settings name and the data have.
    """

    settings: FitSettings
    prepared: PreparedStudies
    maker: BatchMaker
    token_ids: np.ndarray
    vectors: np.ndarray | None
    work: Path
    cache: Path
    progress: Progress
    callbacks: tuple[keras.callbacks.Callback, ...] = ()
    tensorboard: Path | None = None
    shared: bool = False
    members: tuple[int, ...] = (0,)
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    text_weights: TextWeights | None = None
    auxiliary: "Mapping[str, AuxiliaryTarget]" = field(default_factory=dict)

    def rows(self, part: str) -> np.ndarray:
        """Returns the int64 rows of the studies of a part of the split."""
        return self.prepared.rows(part)

    def targets_of(self, side: str) -> np.ndarray:
        """Returns what the model of a side learns, float32 `(n, n_labels)` in [0, 1], NaN where unknown."""
        return self.targets.get(side, self.prepared.labels)

    def spec(self, side: str, *, tta: int = 1) -> build.ModelSpec:
        """Returns the specification of the model of a side, `"image"`, `"text"` or `"joint"`. It is trained on the film
        alone, whatever the setting `tta` says."""
        s, image, text = self.settings, side != "text", side != "image"
        units = s.fusion_units // 2 * len(self.members) * image + (s.fusion_units + 1) // 2 * text
        return build.ModelSpec(
            image_encoder=s.image_encoder if image else None,
            text_encoder=s.text_encoder if text else None,
            fusion=s.fusion,
            head=s.head,
            image_depths=s.image_depths if image else 1,
            image_grid=s.image_grid if image else 1,
            pixels=s.pixels,
            length=s.length,
            embedding_size=s.embedding_size if self.vectors is None or not text else self.vectors.shape[1],
            train_embedding=s.train_embedding,
            text_filters=s.text_filters,
            text_dropout=s.text_dropout,
            fusion_units=units,
            fusion_dropout=s.fusion_dropout,
            tta=tta,
            members=self.members if image else (0,),
            text_shape=self.text_weights.folder.shape if self.text_weights and text else None,
            fusion_shape=find_shape(s),
        )

    def build(self, side: str, *, tta: int = 1) -> keras.Model:
        """Builds the model of a side; the seed determines its weights. `tta` as in `kmm.models.build.ModelSpec`."""
        vocabulary = self.maker.vocabulary
        return build.build_model(
            self.spec(side, tta=tta),
            label_count=len(self.maker.label_names),
            vocabulary_size=len(vocabulary) if side != "image" and vocabulary else None,
            embedding=self.vectors if side != "image" else None,
            seed=self.settings.seed,
        )

    def columns(self, model: keras.Model, features: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns the columns for a model's inputs; `features` are added, or replace those of the studies."""
        known = {
            "image": self.prepared.films,
            "token_ids": self.token_ids,
            "present": self.prepared.present,
            **(features or {}),
        }
        return {tensor.name: known[tensor.name] for tensor in model.inputs}

    def predict(self, model: keras.Model, rows: np.ndarray, features: Mapping[str, Any] | None = None) -> np.ndarray:
        """Returns the logits float32 `(len(rows), n_labels)` of some studies; `features` as for `columns`."""
        columns, made = self.columns(model, features), []
        for start in range(0, len(rows), PREDICT_BATCH):
            chunk = rows[start : start + PREDICT_BATCH]
            full = np.resize(chunk, PREDICT_BATCH)  # one shape, which is compiled once
            made.append(run_model(model, {name: column[full] for name, column in columns.items()})[: len(chunk)])
        return np.concatenate(made)
