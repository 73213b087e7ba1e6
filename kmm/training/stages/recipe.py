"""Recipe of a fit as data: for each side, the stages in which its model is trained, derived from the settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from kmm.errors import look_up
from kmm.image.augment import STRENGTHS, Augmentation
from kmm.models.heads import HEADS
from kmm.settings import FitSettings

FEATURES = "features"
LORA = "lora"  # value of `tune_image` and `tune_text`
GRADUAL, GRADUAL_STAGES = "gradual", 4  # another one, and the most stages that it makes
TRAINED: dict[str, bool | float | Literal["top", "lora"]] = {
    **{FEATURES: False, "none": False, "top": "top", "lora": "lora", "all": True},
    **{f"{number}/{count}": number / count for count in range(2, GRADUAL_STAGES + 1) for number in range(1, count)},
}


@dataclass(frozen=True)
class Stage:
    """One stage of training: what it reads, what it changes, and how.

    `image` and `text` say how the encoder of that side takes part, and do not matter where the model has no such
    encoder:

    - `"features"`: the encoder stays as it is. Its features are computed once, and only what follows it is trained.
    - `"none"`: the encoder stays as it is, and runs in every step, on augmented films and reports with dropped words.
    - `"top"`: its upper layers are trained too. The rows of words are below all layers of a text encoder.
    - `"1/4"` and other fractions: this part of the blocks of the encoder is trained too, the upper ones.
    - `"lora"`: low-rank factors of its queries and values are trained, and then added to its weights.
    - `"all"`: all of its layers are trained too.

    The head, which is the fusion and the layer of the logits, is trained in every stage.

    Attributes:
        name: str. Name of the stage, for the user and the folder of its state; unique in the recipe.
        epochs: int. Most epochs; a stage of 0 epochs is skipped.
        learning_rate: float. Learning rate at the start.
        side: str. The model that is trained: `"image"`, `"text"` or `"joint"`.
        image, text: str, a key of `TRAINED`.
        schedule: str. Key of `kmm.training.stages.schedule.SCHEDULES`.
        warmup: float in [0, 1). Fraction of the steps over which the learning rate rises from 0, before the schedule.
        rate_decay: float in (0, 1]. Factor of the learning rate from each depth of an encoder to the next lower one,
            see `kmm.models.views.depth.scale_by_depth`.
        lora_rank, lora_alpha: int and float. Of the factors of `"lora"`, see
            `kmm.models.views.low_rank.LowRankDense`.
        batch_norm: str. In trained layers of the image encoder `"train"` normalises by the batch, and trains scale and
            shift; `"inference"` normalises by the stored statistics, and trains nothing of it.
        monitor: str. Key of `kmm.training.stages.monitors.MONITORS`: what decides which epoch is the best one.
        patience: int. Epochs without a better one after which the stage ends.
        clip_norm: float. Largest global norm of the gradients; 0 for no limit.
        loss: str. Key of `kmm.models.loss.LOSSES`.
        focal_gamma, focal_share, positive_weight_limit: float, of the losses `focal` and `hybrid`, see
            `kmm.models.loss.MaskedHybrid`.
        contrastive: str. Key of `kmm.models.contrastive.CONTRASTS`, or empty; used by stages of the joint model.
        contrastive_pairs, contrastive_weight, contrastive_temperature: see
            `kmm.models.contrastive.ContrastiveTerms`.
        auxiliary: tuple of str, keys of `kmm.training.auxiliary.targets.AUXILIARY_TARGETS`: what the model predicts
            beside the labels; used by stages of the image side.
        auxiliary_weight: float. Weight of their loss. Stages of different weights are alternatives, of which each
            starts from the same model: see `kmm.training.auxiliary.weight_choice`.
        sampling: str, as for `kmm.training.stages.dataset.StudyDataset`.
        class_weights: bool. Whether both classes of a label get the same total weight, whatever the loss says.
        optimizer: str. Key of `kmm.training.stages.optimizers.OPTIMIZERS`.
        weight_decay: float. Weight decay of the optimizer `adamw`.
        weight_average: float in [0, 1). Momentum of the moving average of the trained weights, which is validated and
            is the result of the stage; 0 for the weights themselves. See `kmm.training.stages.weight_average`.
        batch_size: int. Studies per step.
        augmentation: `Augmentation` of films, or None.
        augmentation_device: str, or None: see `kmm.training.stages.film_changes.choose_device`.
        modality_dropout, word_dropout, label_smoothing, mixup: float, as for
            `kmm.training.stages.dataset.StudyDataset`.

    Example:
        >>> Stage("text head", 5, 1e-3, side="text", text=FEATURES).encoder("text")
        'features'
    """

    name: str
    epochs: int
    learning_rate: float
    side: str = "joint"
    image: str = "all"
    text: str = "all"
    schedule: str = "plateau"
    warmup: float = 0.0
    rate_decay: float = 1.0
    lora_rank: int = 8
    lora_alpha: float = 16.0
    batch_norm: str = "train"
    monitor: str = "loss"
    patience: int = 5
    clip_norm: float = 1.0
    loss: str = "bce"
    focal_gamma: float = 2.0
    focal_share: float = 0.3
    positive_weight_limit: float = 5.0
    contrastive: str = ""
    contrastive_pairs: tuple[str, ...] = ()
    contrastive_weight: float = 0.0
    contrastive_temperature: float = 0.07
    auxiliary: tuple[str, ...] = ()
    auxiliary_weight: float = 0.0
    sampling: str = "all"
    class_weights: bool = False
    optimizer: str = "adam"
    weight_decay: float = 0.0
    weight_average: float = 0.0
    batch_size: int = 32
    augmentation: Augmentation | None = None
    augmentation_device: str | None = "auto"
    modality_dropout: float = 0.0
    word_dropout: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0

    def encoder(self, side: str) -> str:
        """Returns how the encoder of `"image"` or `"text"` takes part: a key of `TRAINED`."""
        return {"image": self.image, "text": self.text}[side]

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides that the model reads."""
        return ("image", "text") if self.side == "joint" else (self.side,)

    @property
    def features(self) -> tuple[str, ...]:
        """The sides that are read as features."""
        return tuple(side for side in self.sides if self.encoder(side) == FEATURES)

    @property
    def trained(self) -> tuple[str, ...]:
        """The sides whose encoders the stage changes."""
        return tuple(side for side in self.sides if self.epochs and TRAINED[self.encoder(side)])

    @property
    def adapted(self) -> tuple[str, ...]:
        """The sides whose encoders are changed through low-rank factors."""
        return tuple(side for side in self.sides if self.encoder(side) == LORA)


def make_recipe(settings: FitSettings) -> dict[str, tuple[Stage, ...]]:
    """Derives the stages of a fit from its settings.

    Args:
        settings: `FitSettings`.

    Returns:
        dict of side to its stages, in the order of training. The joint model starts from both others, so it comes last.
        With members the image side has the stages of each member in turn, and the joint model has none: it stays the
        weighted sum of both sides, because the members have seen all studies that could judge more. With several
        weights of auxiliary targets the image side has the stages of each weight in turn.

    Example:
        >>> recipe = make_recipe(FitSettings(image_weights="film.h5", tune_image="top"))
        >>> for side, stages in recipe.items():
        ...     print(side, [(stage.name, stage.image, stage.text) for stage in stages if stage.side == side])
        text [('text', 'all', 'all')]
        image [('image head', 'features', 'all'), ('image tuning', 'top', 'all')]
        joint [('joint head', 'features', 'features'), ('joint tuning', 'top', 'all')]
    """
    s = settings
    recipe = {}
    if s.text_encoder:
        recipe["text"] = _train_text(s)
    if s.image_encoder:
        recipe["image"] = _train_image(s)
        if s.members > 1:
            recipe["image"] = tuple(
                stage for number in range(s.members) for stage in name_member(recipe["image"], number)
            )
    if s.text_encoder and s.image_encoder:
        recipe["joint"] = _train_joint(s) if s.members == 1 else ()
    return recipe


def name_member(stages: Sequence[Stage], number: int) -> tuple[Stage, ...]:
    """Renames the stages of the image side for one of several members, from 0.

    Example:
        >>> [stage.name for stage in name_member([Stage("image head", 1, 0.1), Stage("image tuning", 1, 0.1)], 1)]
        ['member 2 image head', 'member 2 image tuning']
    """
    return tuple(replace(stage, name=f"member {number + 1} {stage.name}") for stage in stages)


def _train_text(s):
    """As for images: of an encoder with weights the head first, then the encoder too."""
    make = partial(make_stage(s), side="text")
    if not s.text_weights:
        return (make("text", s.text_epochs, s.text_learning_rate),)
    head = make("text head", s.text_epochs, s.text_learning_rate, text=FEATURES)
    if s.tune_text == "none":
        return (head,)
    return head, *list_tuning(s, make, "text tuning", side="text")


def _train_image(s):
    """Lists the stages of the image side, once for each weight of auxiliary targets, if they change anything."""
    stages, weights = _list_image(s), s.image_auxiliary_weights
    if not s.image_auxiliary or not any(_takes_auxiliary(stage, s) for stage in stages):
        return stages
    return tuple(
        replace(
            stage,
            name=f"auxiliary {weight:g} {stage.name}" if len(weights) > 1 else stage.name,
            auxiliary=s.image_auxiliary if weight and _takes_auxiliary(stage, s) else (),
            auxiliary_weight=weight,
        )
        for weight in weights
        for stage in stages
    )


def _takes_auxiliary(stage, settings):
    """Returns whether a stage trains anything between the film and the features from which the labels are predicted."""
    return bool(stage.epochs and (stage.trained or HEADS[settings.head].hidden))


def _list_image(s):
    """Trains a randomly initialised encoder at once; of one with weights the head first, then the encoder too."""
    make = partial(make_stage(s), side="image")
    if not s.image_weights:
        return (make("image", s.image_epochs, s.learning_rate),)
    head = make("image head", s.image_epochs, s.learning_rate, image=FEATURES)
    if s.tune_image == "none":
        return (head,)
    return head, *list_tuning(s, make, "image tuning")


def list_tuning(
    settings: FitSettings, make: Callable[..., Stage], name: str, *, side: str = "image"
) -> tuple[Stage, ...]:
    """Lists the stages that tune an encoder that starts from weights: one, or with gradual unfreezing up to four.
    Then the first trains the upper blocks of the encoder, each later one more of them, and the last one all layers. The
    epochs are divided among them; those that are left over go to the last ones.

    Args:
        settings: `FitSettings`.
        make: function that makes a `Stage` of a name, epochs and a learning rate, as `make_stage` returns.
        name: str. Name of the stage; those of gradual unfreezing are numbered.
        side: str. The encoder that `tune_image` or `tune_text` is about.

    Source: https://arxiv.org/abs/1801.06146

    Example:
        >>> s = FitSettings(tune_image="gradual", tune_epochs=6)
        >>> [(stage.name, stage.image, stage.epochs) for stage in list_tuning(s, make_stage(s), "tuning")]
        [('tuning 1', '1/4', 1), ('tuning 2', '2/4', 1), ('tuning 3', '3/4', 2), ('tuning 4', 'all', 2)]
    """
    s = settings
    tune = partial(make, learning_rate=s.tune_learning_rate, rate_decay=s.rate_decay, batch_norm=_choose_batch_norm(s))
    chosen = {"image": s.tune_image, "text": s.tune_text}[side]
    if chosen != GRADUAL:
        return (tune(name, s.tune_epochs, **{side: chosen}),)
    count = min(GRADUAL_STAGES, s.tune_epochs)
    parts = [f"{number}/{count}" for number in range(1, count)] + ["all"] * (count > 0)
    return tuple(
        tune(f"{name} {number}", (s.tune_epochs + number - 1) // count, **{side: part})
        for number, part in enumerate(parts, start=1)
    )


def _choose_batch_norm(settings):
    """An encoder that was trained from scratch goes on with batch statistics."""
    return settings.batch_norm if settings.image_weights else "train"


def _train_joint(s):
    """Trains the head on the features of both encoders, then the encoders too, at the low rate."""
    make = partial(make_stage(s), side="joint")
    if s.contrastive:
        names = ("contrastive", "contrastive_pairs", "contrastive_weight", "contrastive_temperature")
        make = partial(make, **{name: getattr(s, name) for name in names})
    size = max(s.batch_size, s.contrastive_batch) if s.contrastive else s.batch_size
    head = make("joint head", s.joint_epochs, s.learning_rate, image=FEATURES, text=FEATURES, batch_size=size)
    if not s.tune_epochs:
        return (head,)
    # Blocks that are thawed one after the other were thawed for the model of their side.
    values = {"none": FEATURES, GRADUAL: "all"}
    text = values.get(s.tune_text, s.tune_text) if s.text_weights else "all"
    image = values.get(s.tune_image, s.tune_image)
    if text == image == FEATURES:
        return (head,)
    if image == FEATURES:
        return head, make("joint tuning", s.tune_epochs, s.tune_learning_rate, image=FEATURES, text=text)
    return head, *list_tuning(replace(s, tune_image=image), partial(make, text=text), "joint tuning")


def make_stage(settings: FitSettings) -> Callable[..., Stage]:
    """Returns `Stage` with what the settings say of every stage."""
    s = settings
    return partial(
        Stage,
        schedule=s.schedule,
        warmup=s.warmup,
        monitor=s.monitor,
        patience=s.patience,
        clip_norm=s.clip_norm,
        loss=s.loss,
        focal_gamma=s.focal_gamma,
        focal_share=s.focal_share,
        positive_weight_limit=s.positive_weight_limit,
        sampling=s.sampling,
        class_weights=s.class_weights,
        optimizer=s.optimizer,
        weight_decay=s.weight_decay,
        weight_average=s.weight_average,
        lora_rank=s.lora_rank,
        lora_alpha=s.lora_alpha,
        batch_size=s.batch_size,
        augmentation=make_augmentation(s),
        augmentation_device=s.augmentation_device,
        modality_dropout=s.modality_dropout,
        word_dropout=s.word_dropout,
        label_smoothing=s.label_smoothing,
        mixup=s.mixup,
    )


RANGES = {
    "rotation_degrees": "augment_rotation",
    "horizontal_flip": "augment_flip",
    **{name: f"augment_{name}" for name in ("shift", "zoom", "contrast", "brightness", "gamma", "noise")},
}  # settings of the fields of `Augmentation`


def make_augmentation(settings: FitSettings) -> Augmentation | None:
    """Returns the augmentation of films that the settings describe; None if they switch it off.

    Example:
        >>> made = make_augmentation(FitSettings(augmentation="strong", augment_rotation=10))
        >>> made.rotation_degrees, made.shift
        (10, 0.1)
        >>> make_augmentation(FitSettings()) == Augmentation()
        True
    """
    if not settings.augment:
        return None
    given = {field: getattr(settings, name) for field, name in RANGES.items() if getattr(settings, name) is not None}
    found = replace(look_up(STRENGTHS, settings.augmentation, "augmentation"), **given)
    return None if found == STRENGTHS["none"] else found
