"""Recipe of a fit as data: for each side, the stages in which its model is trained, derived from the settings."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from kmm.image.augment import Augmentation
from kmm.settings import FitSettings

FEATURES = "features"
TRAINED: dict[str, bool | Literal["top"]] = {FEATURES: False, "none": False, "top": "top", "all": True}


@dataclass(frozen=True)
class Stage:
    """One stage of training: what it reads, what it changes, and how.

    `image` and `text` say how the encoder of that side takes part, and do not matter where the model has no such
    encoder:

    - `"features"`: the encoder stays as it is. Its features are computed once, and only what follows it is trained.
    - `"none"`: the encoder stays as it is, and runs in every step, on augmented films and reports with dropped words.
    - `"top"`: its upper layers are trained too. The rows of words are below all layers of a text encoder.
    - `"all"`: all of its layers are trained too.

    The head, which is the fusion and the layer of the logits, is trained in every stage.

    Attributes:
        name: str. Name of the stage, for the user and the folder of its state; unique in the recipe.
        epochs: int. Most epochs; a stage of 0 epochs is skipped.
        learning_rate: float. Learning rate at the start.
        side: str. The model that is trained: `"image"`, `"text"` or `"joint"`.
        image, text: str, a key of `TRAINED`.
        schedule: str. Key of `kmm.training.schedule.SCHEDULES`.
        patience: int. Epochs without a better validation loss after which the stage ends.
        clip_norm: float. Largest global norm of the gradients; 0 for no limit.
        loss: str. Key of `kmm.models.loss.LOSSES`.
        class_weights: bool. Whether both classes of a label get the same total weight, whatever the loss says.
        optimizer: str. Key of `kmm.training.optimizers.OPTIMIZERS`.
        weight_decay: float. Weight decay of the optimizer `adamw`.
        batch_size: int. Studies per step.
        augmentation: `Augmentation` of films, or None.
        modality_dropout, word_dropout: float, as for `kmm.training.dataset.StudyDataset`.

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
    patience: int = 5
    clip_norm: float = 1.0
    loss: str = "bce"
    class_weights: bool = False
    optimizer: str = "adam"
    weight_decay: float = 0.0
    batch_size: int = 32
    augmentation: Augmentation | None = None
    modality_dropout: float = 0.0
    word_dropout: float = 0.0

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


def make_recipe(settings: FitSettings) -> dict[str, tuple[Stage, ...]]:
    """Derives the stages of a fit from its settings.

    Args:
        settings: `FitSettings`.

    Returns:
        dict of side to its stages, in the order of training. The joint model starts from both others, so it comes last.

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
    if s.text_encoder and s.image_encoder:
        recipe["joint"] = _train_joint(s)
    return recipe


def _train_text(s):
    return (make_stage(s)("text", s.text_epochs, s.text_learning_rate, side="text"),)


def _train_image(s):
    """Trains a randomly initialised encoder at once; of one with weights the head first, then the encoder too."""
    make = partial(make_stage(s), side="image")
    if not s.image_weights:
        return (make("image", s.image_epochs, s.learning_rate),)
    head = make("image head", s.image_epochs, s.learning_rate, image=FEATURES)
    if s.tune_image == "none":
        return (head,)
    return head, make("image tuning", s.tune_epochs, s.tune_learning_rate, image=s.tune_image)


def _train_joint(s):
    """Trains the head on the features of both encoders, then the encoders too, at the low rate."""
    make = partial(make_stage(s), side="joint")
    head = make("joint head", s.joint_epochs, s.learning_rate, image=FEATURES, text=FEATURES)
    if not s.tune_epochs:
        return (head,)
    image = FEATURES if s.tune_image == "none" else s.tune_image
    return head, make("joint tuning", s.tune_epochs, s.tune_learning_rate, image=image)


def make_stage(settings: FitSettings) -> Callable[..., Stage]:
    """Returns `Stage` with what the settings say of every stage."""
    s = settings
    return partial(
        Stage,
        schedule=s.schedule,
        patience=s.patience,
        clip_norm=s.clip_norm,
        loss=s.loss,
        class_weights=s.class_weights,
        optimizer=s.optimizer,
        weight_decay=s.weight_decay,
        batch_size=s.batch_size,
        augmentation=make_augmentation(s),
        modality_dropout=s.modality_dropout,
        word_dropout=s.word_dropout,
    )


def make_augmentation(settings: FitSettings) -> Augmentation | None:
    """Returns the augmentation of films that the settings describe; None if they switch it off.

    Example:
        >>> make_augmentation(FitSettings(augment_rotation=10)).rotation_degrees
        10
        >>> make_augmentation(FitSettings()) == Augmentation()
        True
    """
    s = settings
    if not s.augment:
        return None
    return Augmentation(
        rotation_degrees=s.augment_rotation,
        shift=s.augment_shift,
        zoom=s.augment_zoom,
        contrast=s.augment_contrast,
        brightness=s.augment_brightness,
        gamma=s.augment_gamma,
        noise=s.augment_noise,
        horizontal_flip=s.augment_flip,
    )
