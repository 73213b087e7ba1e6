"""Objectives of pretraining, one table entry each: the targets of the films, and the models that learn them."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import keras

from kmm.models.build import build_model
from kmm.models.views import parts
from kmm.models.views.feature_view import view_features
from kmm.models.weights import checkpoints
from kmm.settings import FitSettings
from kmm.training.preparation.prepared_studies import PreparedStudies
from kmm.training.pretraining.contrastive import build_projection, compile_contrastive
from kmm.training.pretraining.targets import Targets, ask_teacher, describe_reports, list_headings
from kmm.training.run_context import RunContext
from kmm.training.stages.fit_stage import Compile, compile_stage

LARGE_BATCH = 512  # pairs per step where films are read as features: every other pair is a negative


@dataclass(frozen=True)
class Pupil:
    """The models of a pretraining. They share the encoder.

    Attributes:
        base: `keras.Model` from `kmm.models.build.build_model`, which has the encoder.
        of_films: `keras.Model` from films, and what the targets add, to what the loss compares with the targets.
        of_features: `keras.Model` that starts from the encoder's vectors instead.
        compile: function that compiles either for a stage.
    """

    base: keras.Model
    of_films: keras.Model
    of_features: keras.Model
    compile: Compile = compile_stage


@dataclass(frozen=True)
class Objective:
    """One way to pretrain.

    Attributes:
        about: str. One sentence for the user.
        source: str. Link to the published method.
        make_targets: (`PreparedStudies` of training and validation, `FitSettings`, temperature) -> `Targets`.
        build: (`RunContext`, `Targets`) -> `Pupil`.
        reads_reports: bool. Whether the targets come from the words of the reports.
        large_batches: bool. Whether a stage on features takes batches of up to `LARGE_BATCH`.
        soft: bool. Whether the targets are labels, which may be smoothed and mixed, and no numbers of reports.
    """

    about: str
    source: str
    make_targets: Callable[[PreparedStudies, FitSettings, float], Targets]
    build: Callable[[RunContext, Targets], Pupil]
    reads_reports: bool = False
    large_batches: bool = False
    soft: bool = True


def _start_base(context: RunContext, outputs: int) -> keras.Model:
    """Builds the model of films with the weights that the settings name for its encoder."""
    s = context.settings
    spec = dataclasses.replace(context.spec("image"), head="decoder")  # of use to the encoder alone
    base = build_model(spec, label_count=outputs, seed=s.seed)
    encoder = parts.image_encoder_of(base)
    if s.image_weights and s.image_encoder and encoder is not None:
        checkpoints.load_image_weights(encoder, s.image_encoder, s.image_weights)
    return base


def _build_labeller(context: RunContext, targets: Targets) -> Pupil:
    """Builds a classifier of films with one logit per target."""
    base = _start_base(context, targets.values.shape[1])
    return Pupil(base, base, view_features(base, ("image",)))


def _build_pairs(context: RunContext, targets: Targets) -> Pupil:
    """Builds the models that compare films with the vectors of reports."""
    base = _start_base(context, 1)
    encoder = parts.image_encoder_of(base)
    assert encoder is not None
    image = keras.Input(encoder.input.shape[1:], name="image")
    size = targets.columns["report_vector"].shape[1]
    report = keras.Input((size,), name="report_vector")
    vector = encoder(image)["vector"]
    projection = build_projection(vector.shape[-1], size, seed=context.settings.seed)
    pairs = projection({"image_vector": vector, "report_vector": report})
    films = keras.Model({"image": image, "report_vector": report}, pairs)
    return Pupil(base, films, projection, compile_contrastive)


OBJECTIVES = {
    "contrastive": Objective(
        about="a film is closer to its own report than to the others of its batch",
        source="https://arxiv.org/abs/2010.00747",
        make_targets=lambda prepared, settings, temperature: describe_reports(prepared, settings),
        build=_build_pairs,
        reads_reports=True,
        large_batches=True,
        soft=False,
    ),
    "multi-label": Objective(
        about="a film shows which MeSH headings its report was indexed with",
        source="https://arxiv.org/abs/1711.05225",
        make_targets=lambda prepared, settings, temperature: list_headings(prepared, settings),
        build=_build_labeller,
    ),
    "distill": Objective(
        about="a film predicts what a classifier of reports, fitted on other reports, says of its report",
        source="https://arxiv.org/abs/1503.02531",
        make_targets=lambda prepared, settings, temperature: ask_teacher(prepared, settings, temperature=temperature),
        build=_build_labeller,
        reads_reports=True,
    ),
}
