"""One fit: its studies, its state on disk, and what every stage of it needs alike."""

from pathlib import Path

import keras
import numpy as np

from kmm.classifier import run_model
from kmm.image.augment import Augmentation
from kmm.models import build, checkpoints
from kmm.models.loss import LOSSES
from kmm.progress import Progress
from kmm.training.checkpoint import StagePlan
from kmm.training.dataset import StudyDataset
from kmm.training.feature_cache import FeatureCache, compute_features
from kmm.training.fit_stage import balance_classes, fit_stage
from kmm.training.run_folders import digest_code

FEATURE_BATCH = 32


class Run:
    """One fit: the prepared studies, the folder that its stages keep their state in, and what they made so far.

    Args:
        settings: `FitSettings`.
        work: path of the folder for state and prepared films.
        cache: path of the folder for features of frozen encoders.
        progress: `kmm.progress.Progress`.
        tensorboard: path of a folder for TensorBoard logs, or None.
    """

    def __init__(self, settings, work, *, cache, progress=None, tensorboard=None):
        self.settings, self.work, self.cache = settings, Path(work), Path(cache)
        self.progress, self.tensorboard = progress or Progress(), tensorboard
        self.tuned = not settings.image_weights  # the image encoder no longer has the weights that it was given
        self.history, self.facts, self.models, self.predictions = {}, {}, {}, {}
        self.maker = self.prepared = self.split = self.vectors = self.image_vectors = None
        self.rare = frozenset()  # words or pieces of too few training patients

    def close(self):
        """Closes the file of prepared films."""
        if self.prepared is not None and self.prepared.image is not None:
            self.prepared.image.close()

    def rows(self, part):
        """int64 rows of the studies of a part of the split."""
        return self.prepared.rows(self.split.part(part))

    def spec(self, *, image, text):
        """The description of a model with one side or both."""
        s = self.settings
        units = s.fusion_units if image and text else s.fusion_units // 2 + (s.fusion_units % 2 if text else 0)
        return build.ModelSpec(
            image_encoder=s.image_encoder if image else None,
            text_encoder=s.text_encoder if text else None,
            fusion=s.fusion,
            pixels=s.pixels,
            length=s.length,
            embedding_size=self.vectors.shape[1] if text else s.embedding_size,
            train_embedding=s.train_embedding,
            text_filters=s.text_filters,
            text_dropout=s.text_dropout,
            fusion_units=units,
            fusion_dropout=s.fusion_dropout,
        )

    def build(self, *, image, text):
        """A model with one side or both, its weights drawn by the seed."""
        keras.config.set_dtype_policy(self.settings.precision)
        return build.build_model(
            self.spec(image=image, text=text),
            label_count=len(self.maker.label_names),
            vocabulary_size=len(self.maker.vocabulary) if text else None,
            embedding=self.vectors if text else None,
            seed=self.settings.seed,
        )

    def columns(self, model, features=None):
        """The columns that a model's inputs name, features of frozen encoders among them."""
        known = {
            "image": self.prepared.image,
            "token_ids": self.prepared.token_ids,
            "present": self.prepared.present,
            **(features or {}),
        }
        return {tensor.name: known[tensor.name] for tensor in model.inputs}

    def fit(self, model, name, *, epochs, rate, features=None):
        """Trains a model as one stage of the run."""
        s = self.settings
        columns = self.columns(model, features)
        shared = {"batch_size": s.batch_size}
        train = StudyDataset(
            columns,
            self.prepared.labels,
            rows=self.rows("train"),
            seed=s.seed + 1,
            augmentation=Augmentation() if s.augment else None,
            modality_dropout=s.modality_dropout,
            word_dropout=s.word_dropout,
            **shared,
        )
        validation = StudyDataset(columns, self.prepared.labels, rows=self.rows("validation"), **shared)
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
            tensorboard=self.tensorboard and str(Path(self.tensorboard) / name.replace(" ", "-")),
        )
        keras.utils.set_random_seed(s.seed)
        balanced = s.class_weights or LOSSES[s.loss].balances
        weights = balance_classes(self.prepared.labels[self.rows("train")]) if balanced else None
        folder = self.work / "stages" / name.replace(" ", "-")
        self.history[name] = fit_stage(
            model, train, validation, plan=plan, folder=folder, class_weights=weights, progress=self.progress
        )

    @property
    def frozen(self):
        """Whether the image encoder keeps the weights that it was given: its features then hold for all models."""
        return bool(self.settings.image_weights) and self.settings.tune_image == "none"

    def image_features(self, encoder):
        """Feature vectors of all films; those of a frozen encoder come from the cache where they are known."""
        if self.frozen and self.image_vectors is not None:
            return self.image_vectors
        cache = None
        if not self.tuned:
            preparation = {
                **self.maker.image.as_dict(),
                "encoder": self.settings.image_encoder,
                "precision": self.settings.precision,
                "backend": keras.backend.backend(),
                "code": digest_code("image", "models/encoders_image.py"),
            }
            cache = FeatureCache(self.cache, preparation, checkpoints.weights_digest(encoder))

        def encode(films):
            return encoder.predict_on_batch(films)["vector"]

        self.image_vectors = compute_features(
            encode, self.prepared, cache, batch_size=FEATURE_BATCH, progress=self.progress
        )
        return self.image_vectors

    def predict(self, model, rows, features=None):
        """Logits `(n, n_labels)` of some rows."""
        columns, made = self.columns(model, features), []
        for start in range(0, len(rows), FEATURE_BATCH):
            chunk = rows[start : start + FEATURE_BATCH]
            full = np.resize(chunk, FEATURE_BATCH)
            made.append(run_model(model, {name: column[full] for name, column in columns.items()})[: len(chunk)])
        return np.concatenate(made)
