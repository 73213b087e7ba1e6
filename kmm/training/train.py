"""Training of the models of a run: each side starts as its entry says, then goes through the stages of its recipe."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np

from kmm.errors import require
from kmm.evaluate.stacking import fit_weights
from kmm.models.fusion import FUSIONS
from kmm.models.heads import HEADS
from kmm.models.views import parts
from kmm.models.views.feature_view import view_features
from kmm.models.views.low_rank import add_factors, merge_factors
from kmm.models.views.projection import Projection
from kmm.models.weights import checkpoints
from kmm.models.weights.bert_weights import load_text_weights
from kmm.training.auxiliary.weight_choice import divide_stages, train_weights
from kmm.training.averaging import add_views
from kmm.training.features import Features
from kmm.training.head_choice import open_choice
from kmm.training.members import HeldOut, Member, ask_held_out, average_members, find_order, train_members
from kmm.training.run_context import RunContext
from kmm.training.stages.dataset import StudyDataset
from kmm.training.stages.film_changes import ACCELERATOR, change_on_device, choose_device, describe_device
from kmm.training.stages.fit_stage import Compile, compile_stage, fit_stage, list_options, weigh_classes
from kmm.training.stages.projection_fit import project_model
from kmm.training.stages.recipe import TRAINED, Stage, make_recipe
from kmm.training.stages.sampling import BALANCED, weigh_draws
from kmm.training.stages.stage_state import hold_state, name_folder
from kmm.training.stages.terms import view_stage

Models = Mapping[str, keras.Model]


@dataclass(frozen=True)
class Trained:
    """Result of training.

    Attributes:
        models: dict of side to its trained model.
        history: dict of stage to its learning curves: `loss`, `val_loss`, `learning_rate`.
        facts: dict for JSON, for the classifier's provenance.
        held_out: `HeldOut` if the image side has members, else None.
        projection: `Projection` of the vectors of the joint model, if it was trained with contrastive terms; else None.
    """

    models: dict[str, keras.Model]
    history: dict[str, dict[str, list[float]]]
    facts: dict[str, Any]
    held_out: HeldOut | None = None
    projection: Projection | None = None


def train_models(context: RunContext, features: Features) -> Trained:
    """Trains the models of a run. Stages that an earlier process finished are not repeated.

    Args:
        context: `RunContext`.
        features: `Features` of the run.

    Returns:
        `Trained`.
    """
    models: dict[str, keras.Model] = {}
    history: dict[str, dict[str, list[float]]] = {}
    facts: dict[str, Any] = {}
    choices: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    held_out: HeldOut | None = None
    recipe = make_recipe(context.settings)

    def start(side: str) -> None:
        if side not in models:
            models[side], found = STARTS[side](context, models, features, held_out)
            facts.update(found)

    def train_image(own: RunContext, stages: Sequence[Stage], known: Features, name: str) -> keras.Model:
        def train(some: Sequence[Stage], branch: Features) -> tuple[keras.Model, dict[str, Any]]:
            model, _ = start_image(own, {}, branch)
            return model, _train_side(own, some, model, branch, history)

        model, chosen, found = train_weights(own, stages, known, train)
        if chosen:
            choices[name] = chosen["image"]
        if found:
            weights[name] = found
        return model

    def train_member(own: RunContext, stages: Sequence[Stage], number: int) -> Member:
        known = Features(own, features.ahead)
        return Member(own, train_image(own, stages, known, f"image_member_{number}"), known)

    if "image" in recipe:
        start("image")  # before any training, to report weights for another network at once
    for side, stages in recipe.items():
        if side == "image" and context.settings.members > 1:
            members = train_members(context, stages, train_member)
            context = replace(context, members=find_order(members))
            held_out = ask_held_out(context, members)
            models["image"] = average_members(context, members)
            continue
        start(side)
        if side == "image" and len(divide_stages(stages)) > 1:
            models[side] = train_image(context, stages, features, side)
        elif stages:
            choices |= _train_side(context, stages, models[side], features, history)
    contrasts = [stage for stage in recipe.get("joint", ()) if stage.contrastive]
    projection = project_model(context, contrasts[0], models["joint"], features) if contrasts else None
    models = add_views(context, models)
    facts |= {"head_choice": choices} if choices else {}
    facts |= {"auxiliary_choice": weights} if weights else {}
    facts |= describe_device(stage for side in recipe.values() for stage in side)
    return Trained(models, history, facts, held_out, projection)


def _train_side(context, stages, model, features, history):
    """Trains a model in the stages of its side; returns the facts of the choice of its head."""
    choice = open_choice(context, stages, model, features)
    for stage in stages:
        if stage.epochs:
            history[stage.name] = run_stage(context, stage, model, features)
            choice.judge(stage.name)
    return choice.finish()


def run_stage(context: RunContext, stage: Stage, model: keras.Model, features: Features) -> dict[str, list[float]]:
    """Trains a model, of whatever side, in one stage.

    Args:
        context: `RunContext`.
        stage: `Stage`.
        model: `keras.Model` of the stage's side, changed in place.
        features: `Features` of the run.

    Returns:
        dict, as `kmm.training.stages.fit_stage.fit_stage`.
    """
    parts.set_trainable(
        model,
        context.spec(stage.side),
        image=TRAINED[stage.image],
        text=TRAINED[stage.text],
        batch_norm=stage.batch_norm,
    )
    computed, adapted = features.compute(model, stage.features), _add_factors(context, stage, model)
    trained, added = view_stage(context, stage, model, adapted)
    columns = context.columns(trained, {**computed, **added})
    history = train_on(context, stage, model, trained, columns, context.targets_of(stage.side))
    for encoder in adapted.values():
        merge_factors(encoder)
    for side in stage.trained:
        features.mark_trained(side)
    return history


def _add_factors(context, stage, model):
    """Returns the encoders that a stage trains through low-rank factors, by side."""
    s, find = stage, {"image": parts.image_encoder_of, "text": parts.text_encoder_of}
    found = {side: find[side](model) for side in s.adapted}
    seed, sizes = context.settings.seed, {"rank": s.lora_rank, "alpha": s.lora_alpha}
    return {side: add_factors(encoder, seed=seed, **sizes) for side, encoder in found.items() if encoder is not None}


def train_on(
    context: RunContext,
    stage: Stage,
    model: keras.Model,
    trained: keras.Model,
    columns: Mapping[str, Any],
    targets: np.ndarray,
    *,
    most_validated: int | None = None,
    compile_model: Compile | None = None,
) -> dict[str, list[float]]:
    """Trains a model on columns of the studies of a run, as its stage and its seed say.

    Args:
        context: `RunContext`.
        stage: `Stage`.
        model: `keras.Model` with what is trained marked, which names a shared state: see
            `kmm.training.stages.stage_state.hold_state`.
        trained: `keras.Model` that reads the columns: the same, or a view of it.
        columns: mapping of the names of its inputs to arrays `(n, ...)`.
        targets: array `(n, k)`, NaN where unknown.
        most_validated: int, or None. Studies of a validation batch, if fewer than in a training batch.
        compile_model: see `kmm.training.stages.fit_stage.fit_stage`.

    Returns:
        dict, as `kmm.training.stages.fit_stage.fit_stage`.
    """
    rows, seed = context.rows("train"), context.settings.seed
    device = choose_device(stage)
    if device == ACCELERATOR:
        trained, columns = change_on_device(trained, columns)
    stage = dataclasses.replace(stage, augmentation_device=device)
    train = StudyDataset(
        columns,
        targets,
        rows=rows,
        batch_size=stage.batch_size,
        seed=seed + 1,
        augmentation=stage.augmentation,
        modality_dropout=stage.modality_dropout,
        word_dropout=stage.word_dropout,
        label_smoothing=stage.label_smoothing,
        mixup=stage.mixup,
        shares=weigh_draws(targets[rows]) if stage.sampling == BALANCED else None,
    )
    size = min(stage.batch_size, most_validated or stage.batch_size)
    validation = StudyDataset(columns, targets, rows=context.rows("validation"), batch_size=size)
    keras.utils.set_random_seed(seed)
    with hold_state(context, stage, model, targets) as folder:
        return fit_stage(
            trained,
            train,
            validation,
            stage=stage,
            folder=folder,
            class_weights=weigh_classes(stage, targets[rows]),
            callbacks=[*log_to_tensorboard(context, stage), *context.callbacks],
            progress=context.progress,
            compile_model=compile_model or partial(compile_stage, options=list_options(stage, targets[rows])),
        )


def log_to_tensorboard(context: RunContext, stage: Stage) -> list[keras.callbacks.Callback]:
    """Returns the callback that writes TensorBoard logs of a stage, if they are wanted."""
    if context.tensorboard is None:
        return []
    require("tensorboard", "tensorboard")
    return [keras.callbacks.TensorBoard(context.tensorboard / name_folder(stage))]


def start_image(
    context: RunContext, models: Models, features: Features, held_out: HeldOut | None = None
) -> tuple[keras.Model, dict[str, Any]]:
    """Builds the model of films, with the weights of its encoder that the settings name.

    Returns:
        the model, and facts about the weights.
    """
    s, model = context.settings, context.build("image")
    if not s.image_weights or not s.image_encoder:
        return model, {}
    encoder = parts.image_encoder_of(model)
    report = checkpoints.load_image_weights(encoder, s.image_encoder, s.image_weights)
    return model, {"image_weights": dataclasses.asdict(report)}


def start_text(
    context: RunContext, models: Models, features: Features, held_out: HeldOut | None = None
) -> tuple[keras.Model, dict[str, Any]]:
    """Builds the model of reports, with the weights of its encoder that the settings name.

    Returns:
        the model, and facts about the weights.
    """
    model, weights = context.build("text"), context.text_weights
    encoder = parts.text_encoder_of(model)
    if weights is None or encoder is None:
        return model, {}
    report = load_text_weights(encoder, weights.folder, weights.vocabulary.marks)
    shape = dataclasses.asdict(weights.folder.shape)
    return model, {"text_weights": {**dataclasses.asdict(report), "shape": shape}}


def start_joint(
    context: RunContext, models: Models, features: Features, held_out: HeldOut | None = None
) -> tuple[keras.Model, dict[str, Any]]:
    """Builds the joint model as the sum of both trained classifiers, weighted on validation. There, members of the
    image side say what they think of studies that they were not trained on.

    Returns:
        the model, and the weights as facts.
    """
    model = context.build("joint")
    for side in ("image", "text"):
        parts.copy_encoder_weights(models[side], model)
    sides = ("image", "text") if held_out is None else ("text",)
    columns = features.compute(model, sides)
    rows = context.rows("validation")
    logits = {side: context.predict(view_features(models[side], (side,)), rows, columns) for side in sides}
    if held_out is not None:
        logits = {"image": held_out.logits[rows], **logits}
    weights, bias = fit_weights(logits, context.prepared.labels[rows])
    heads = {side: parts.fusion_of(models[side]) for side in ("image", "text")}
    s = context.settings
    FUSIONS[s.fusion].join(parts.fusion_of(model), heads, weights, bias, HEADS[s.head])
    if held_out is not None:
        held_out.weights["joint"] = weights["image"]
    return model, {"start_weights": {side: list(map(float, row)) for side, row in weights.items()}}


Start = Callable[[RunContext, Models, Features, HeldOut | None], tuple[keras.Model, dict[str, Any]]]
STARTS: dict[str, Start] = {"image": start_image, "text": start_text, "joint": start_joint}
