"""Context of one fit: its studies, its state on disk, and the operations that its stages share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kmm.batches import BatchMaker
from kmm.classifier import Predictions, run_model
from kmm.data.split import Split
from kmm.image.augment import Augmentation
from kmm.image.prepare import PREPARATION_VERSION
from kmm.models import build
from kmm.models.loss import LOSSES
from kmm.progress import Progress
from kmm.settings import FitSettings
from kmm.training.checkpoint import StagePlan
from kmm.training.dataset import StudyDataset
from kmm.training.feature_cache import compute_features, open_features
from kmm.training.fit_stage import balance_classes, fit_stage
from kmm.training.prepared_studies import PreparedStudies

FEATURE_BATCH = 32


class Run:
    """One fit: the prepared studies, the folder for the state of its stages, and their results so far.

    Args:
        settings: `FitSettings`.
        work: path of the folder for state.
        cache: path of the folder for prepared films and features of frozen encoders.
        progress: `kmm.progress.Progress`.
        tensorboard: path of a folder for TensorBoard logs, or None.
    """

    def __init__(
        self,
        settings: FitSettings,
        work: Path | str,
        *,
        cache: Path | str,
        progress: Progress | None = None,
        tensorboard: Path | str | None = None,
    ):
        self.settings, self.work, self.cache = settings, Path(work), Path(cache)
        self.progress, self.tensorboard = progress or Progress(), tensorboard
        self.tuned = not settings.image_weights  # whether the image encoder's weights differ from the loaded ones
        self.history: dict[str, dict[str, list[float]]] = {}
        self.facts: dict[str, Any] = {}
        self.models: dict[str, keras.Model] = {}
        self.predictions: dict[str, Predictions] = {}
        # None only until the fit has prepared its data, before any other method is called.
        self.maker: BatchMaker = None  # type: ignore[assignment]
        self.prepared: PreparedStudies = None  # type: ignore[assignment]
        self.split: Split = None  # type: ignore[assignment]
        self.token_ids: np.ndarray = None  # type: ignore[assignment]
        self.vectors: np.ndarray | None = None
        self.image_vectors: np.ndarray | None = None
        self.rare: frozenset[str] = frozenset()  # words or pieces of too few training patients

    def rows(self, part: str) -> np.ndarray:
        """Returns the int64 rows of the studies of a part of the split."""
        return self.prepared.rows(part)

    def spec(self, *, image: bool, text: bool) -> build.ModelSpec:
        """Returns the specification of a model with one side or both."""
        s = self.settings
        units = s.fusion_units if image and text else s.fusion_units // 2 + (s.fusion_units % 2 if text else 0)
        return build.ModelSpec(
            image_encoder=s.image_encoder if image else None,
            text_encoder=s.text_encoder if text else None,
            fusion=s.fusion,
            pixels=s.pixels,
            length=s.length,
            embedding_size=s.embedding_size if self.vectors is None or not text else self.vectors.shape[1],
            train_embedding=s.train_embedding,
            text_filters=s.text_filters,
            text_dropout=s.text_dropout,
            fusion_units=units,
            fusion_dropout=s.fusion_dropout,
        )

    def build(self, *, image: bool, text: bool) -> keras.Model:
        """Builds a model with one side or both; the seed determines its weights."""
        keras.config.set_dtype_policy(self.settings.precision)
        return build.build_model(
            self.spec(image=image, text=text),
            label_count=len(self.maker.label_names),
            vocabulary_size=len(self.maker.vocabulary) if text and self.maker.vocabulary else None,
            embedding=self.vectors if text else None,
            seed=self.settings.seed,
        )

    def columns(self, model: keras.Model, features: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns the columns for a model's inputs, including features of frozen encoders."""
        known = {
            "image": self.prepared.films,
            "token_ids": self.token_ids,
            "present": self.prepared.present,
            **(features or {}),
        }
        return {tensor.name: known[tensor.name] for tensor in model.inputs}

    def fit(
        self,
        model: keras.Model,
        name: str,
        *,
        epochs: int,
        rate: float,
        features: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Trains a model as one stage of the run, and records its history under `name`."""
        s = self.settings
        columns = self.columns(model, features)
        train = StudyDataset(
            columns,
            self.prepared.labels,
            rows=self.rows("train"),
            batch_size=s.batch_size,
            seed=s.seed + 1,
            augmentation=Augmentation() if s.augment else None,
            modality_dropout=s.modality_dropout,
            word_dropout=s.word_dropout,
        )
        validation = StudyDataset(columns, self.prepared.labels, rows=self.rows("validation"), batch_size=s.batch_size)
        plan = StagePlan(
            name=name,
            epochs=epochs,
            learning_rate=rate,
            schedule=s.schedule,
            patience=s.patience,
            clip_norm=s.clip_norm,
            loss=s.loss,
            optimizer=s.optimizer,
            weight_decay=s.weight_decay,
            tensorboard=str(Path(self.tensorboard) / name.replace(" ", "-")) if self.tensorboard else None,
        )
        keras.utils.set_random_seed(s.seed)
        balanced = s.class_weights or LOSSES[s.loss].balances
        weights = balance_classes(self.prepared.labels[self.rows("train")]) if balanced else None
        folder = self.work / "stages" / name.replace(" ", "-")
        self.history[name] = fit_stage(
            model, train, validation, plan=plan, folder=folder, class_weights=weights, progress=self.progress
        )

    @property
    def frozen(self) -> bool:
        """Whether the image encoder keeps its loaded weights, so that all models share its features."""
        return bool(self.settings.image_weights) and self.settings.tune_image == "none"

    def image_features(self, encoder: keras.Model) -> np.ndarray:
        """Returns the feature vectors of all films, float32 `(n, d)`; those of a frozen encoder may come from the
        cache."""
        if self.frozen and self.image_vectors is not None:
            return self.image_vectors
        store = None
        if not self.tuned and self.maker.image:
            preparation = {**self.maker.image.as_dict(), "version": PREPARATION_VERSION}
            store = open_features(self.cache, str(self.settings.image_encoder), encoder, preparation)

        def encode(films):
            return encoder.predict_on_batch(films)["vector"]

        assert self.prepared.films is not None  # as there is an image encoder
        films, digests = self.prepared.films, self.prepared.film_digests
        found = compute_features(encode, films, digests, store, batch_size=FEATURE_BATCH, progress=self.progress)
        self.image_vectors = np.asarray(found, np.float32)
        return self.image_vectors

    def predict(
        self, model: keras.Model, rows: np.ndarray, features: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Returns the logits `(n, n_labels)` of some rows."""
        columns, made = self.columns(model, features), []
        for start in range(0, len(rows), FEATURE_BATCH):
            chunk = rows[start : start + FEATURE_BATCH]
            full = np.resize(chunk, FEATURE_BATCH)
            made.append(run_model(model, {name: column[full] for name, column in columns.items()})[: len(chunk)])
        return np.concatenate(made)
