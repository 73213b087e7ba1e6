"""Settings of a fit: one frozen dataclass with each default beside its meaning; reading from JSON and YAML."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmm.errors import InputError, look_up
from kmm.setting_values import SECTIONS as SECTIONS
from kmm.setting_values import check_choice, check_values

MAX_SETTINGS_BYTES = 1_000_000
SECTION_SETS = {
    "report": ("indication", "impression", "findings"),  # the paper's sections, which state what the film shows
    "pre-read": ("indication", "comparison"),  # known before the film is read
}


@dataclass(frozen=True)
class FitSettings:
    """All settings that change the result of `kmm fit`. Written as `settings.json` beside the model.

    Example:
        >>> FitSettings(seed=3).seed
        3
        >>> FitSettings.from_dict({"seed": "three"})
        Traceback (most recent call last):
        kmm.errors.InputError: Setting `seed` must be a whole number. Received: 'three'
    """

    preset: str = "small"  # the preset that these settings started from
    seed: int = 0  # of all random numbers
    # Labels and parts
    labels: str = "normal-abnormal"  # a name in kmm.data.labels.LABEL_SCHEMES, or rules:FILE
    label_min_count: int = 50  # scheme `findings`: fewest studies of a finding that becomes a label
    # scheme `findings`: rules of kmm.data.headings, or single headings, that make no label
    not_findings: tuple[str, ...] = ("technical quality", "bare organs")
    shares: tuple[float, ...] = (0.65, 0.15, 0.2)  # fractions of train, validation and test; that of test may be 0
    strict: bool = False  # the first unusable study ends the run, instead of being set aside
    # Text
    text_encoder: str | None = "text-cnn"  # a name in kmm.models.encoders_text.TEXT_ENCODERS, or none
    # folder of a BERT: config.json, vocab.txt and weights. It gives shape, word pieces, their rows, and the cleaning
    text_weights: str | None = None
    sections: tuple[str, ...] = ("indication", "impression", "findings")  # report sections to read, in order
    cleaning: str = "standard"  # a name in kmm.text.clean.CLEANING_MODES
    deidentified: str = "keep"  # the token XXXX: keep or drop
    redact: str | None = None  # file of words, phrases and expressions to remove, or `default`; none removes nothing
    length: int = 140  # words, or word pieces, to which a report is cut or padded
    truncate: str = "end"  # which end of a longer report is cut: end or start
    min_word_count: int = 1  # rarer words are unknown
    min_word_patients: int = 2  # training reads words and pieces that fewer patients use as unknown; 1 keeps all
    max_words: int = 15000  # most training words that get an id, and most further words from a file of vectors
    word_pieces: str | None = None  # vocab.txt of an uncased BERT; then max_words and min_word_count do not apply
    word_vectors: str | None = None  # file of word vectors; none trains them on the training reports
    embedding_size: int = 100  # dimensions of word vectors trained here
    word_vector_epochs: int = 10  # passes of Word2Vec over the training reports
    normalize_vectors: bool = True  # subtract the mean vector, then scale each vector to length 1
    train_embedding: bool = True  # train the word vectors with the text encoder
    text_filters: int = 64  # feature maps per kernel size of the text CNN
    text_dropout: float = 0.5
    word_dropout: float = 0.3  # fraction of the words of a training report that are replaced with UNKNOWN
    # Image
    image_encoder: str | None = "small-cnn"  # a name in kmm.models.encoders_image.IMAGE_ENCODERS, or none
    image_weights: str | None = None  # `imagenet`, `given` (of a Keras model), `random` or a file; none: trained
    image_depths: int = 1  # depths of the image encoder that make up the vector of a film; 1: the last block
    image_grid: int = 1  # cells along each side of the film over which that vector takes means; 1: the whole film
    pixels: int = 128  # height and width of the encoder's input
    image_fit: str = "letterbox"  # letterbox keeps the film's aspect ratio, stretch fills the square
    augment: bool = True  # random shifts, rotations and exposure changes while training on pixels
    augmentation: str = "mild"  # none, mild or strong; the next settings replace single ranges, unless they are none
    augment_rotation: float | None = None  # largest rotation in either direction, in degrees
    augment_shift: float | None = None  # largest shift along each axis, as a fraction of the side
    augment_zoom: float | None = None  # largest relative change of size
    augment_contrast: float | None = None  # largest relative change of the distance from mid gray
    augment_brightness: float | None = None  # largest change of brightness, as a fraction of the gray range
    augment_gamma: float | None = None  # largest change of the exponent of the gray curve, which is 1
    augment_noise: float | None = None  # largest standard deviation of added noise, as a fraction of the gray range
    augment_flip: bool = False  # mirror half of the films; off, because the heart would change sides
    # what augments films: cpu (in the feed), accelerator (with the model), or auto: the accelerator if Keras has one
    augmentation_device: str = "auto"
    # Fusion
    fusion: str = "concat"  # a name in kmm.models.fusion.FUSIONS
    head: str = "mlp"  # what follows the fusion, a name in kmm.models.heads.HEADS
    fusion_units: int = 128
    fusion_dropout: float = 0.3
    # of the fusion `cross-attention`, see kmm.models.cross.shape.CrossShape
    fusion_layers: int = 2  # layers in which film and report read each other
    fusion_heads: int = 4  # heads of attention
    fusion_width: int = 128  # numbers per place of the film and per word, a multiple of the heads
    fusion_adapter: int = 0  # width of a narrow layer behind each of the layers; 0 for none
    stochastic_depth: float = 0.1  # fraction of the training studies for which the last of the layers is skipped
    modality_dropout: float = 0.1  # fraction of training examples whose image is hidden; the same for the text
    # Training: heads first, on a frozen encoder; then the encoders too, at tune_learning_rate
    label_smoothing: float = 0.0  # a label y is learnt as (1 - smoothing) y + smoothing / 2
    mixup: float = 0.0  # alpha of the mixtures of two studies in stages that read no words; 0 mixes none
    batch_size: int = 32
    text_epochs: int = 15
    image_epochs: int = 30  # of a randomly initialised image encoder, or of the head on a frozen one
    joint_epochs: int = 20  # of the fusion on frozen encoders
    tune_epochs: int = 4  # at tune_learning_rate, after the heads
    # layers of the image encoder that are tuned: none, top, gradual (block by block), all, or lora (low-rank factors)
    tune_image: str = "all"
    tune_text: str = "all"  # the same of a text encoder that starts from text_weights
    lora_rank: int = 8  # rank of the factors that `lora` adds to the queries and values of a transformer
    lora_alpha: float = 16.0  # their product is scaled by alpha / rank
    batch_norm: str = "inference"  # of an image encoder from weights while it is tuned: inference (as stored) or train
    # Training targets: label, mixed with what TF-IDF, fitted on other training reports, says of the study's report
    text_teacher: float = 0.6  # weight of the teacher of the text side, in [0, 1]; 0 for the label alone
    image_teacher: float = 0.0  # the same for the image side; its teacher reads the whole report
    teacher_temperature: float = 1.0  # by which the logits of both teachers are divided
    # what the image side also predicts while it is trained, names in kmm.training.auxiliary.targets.AUXILIARY_TARGETS
    image_auxiliary: tuple[str, ...] = ()
    # weight of their loss; of several, each is tried, and the one of the lowest validation loss of the labels is kept
    image_auxiliary_weights: tuple[float, ...] = (0.3,)
    learning_rate: float = 1e-3  # of heads, and of a randomly initialised image encoder
    text_learning_rate: float = 1e-3  # of the text classifier
    tune_learning_rate: float = 1e-4
    loss: str = "bce"  # a name in kmm.models.loss.LOSSES
    focal_gamma: float = 2.0  # of the losses focal and hybrid: exponent of 1 - p, the probability of the wrong class
    focal_share: float = 0.3  # of the loss hybrid: weight of its focal part; cross-entropy has the rest
    positive_weight_limit: float = 5.0  # of the loss hybrid: most that a rare positive weighs in its cross-entropy
    # Contrastive terms of the joint model: the vectors of film, report and fusion of a study are alike
    contrastive: str | None = None  # a name in kmm.models.contrastive.CONTRASTS, or none
    contrastive_pairs: tuple[str, ...] = ("image-text", "image-joint", "text-joint")  # the vectors that are compared
    contrastive_weight: float = 0.1  # of these terms beside the loss of the labels
    contrastive_temperature: float = 0.07  # of their logits at the start; it is trained
    contrastive_batch: int = 256  # studies per step, each with the others as negatives, where encoders are features
    # studies of a training epoch: all, each once; or balanced, drawn so that rare labels come more often
    sampling: str = "all"
    optimizer: str = "adam"  # a name in kmm.training.stages.optimizers.OPTIMIZERS
    weight_decay: float = 0.01  # of adamw, per step and unit of the learning rate
    schedule: str = "plateau"  # a name in kmm.training.stages.schedule.SCHEDULES
    warmup: float = 0.0  # fraction of a stage's steps over which the rate rises from 0; the schedule follows
    rate_decay: float = 1.0  # factor of the rate of tuning from each depth of an encoder to the next lower one
    monitor: str = "loss"  # what decides the best epoch of a stage, a name in kmm.training.stages.monitors.MONITORS
    patience: int = 5  # epochs without a better one before a stage ends
    clip_norm: float = 1.0  # norm to which gradients are clipped; 0 switches clipping off
    weight_average: float = 0.0  # momentum per step of the average of the weights that is kept, as 0.99; 0: no average
    class_weights: bool = False  # weight both classes of a label equally (shifts the probabilities)
    precision: str = "float32"  # float32, mixed_float16 or mixed_bfloat16
    # Averages, after training
    tta: int = 1  # views of a film, up to 9, whose vectors the image encoder averages; 0 or 1: the film alone
    members: int = 1  # image encoders, each trained on the rest of a fold of train and validation; their logits' mean
    # Decision
    # a name in kmm.evaluate.decisions.thresholds.THRESHOLD_POLICIES, or as sensitivity-0.9, specificity-0.95 or cost-5
    threshold_policy: str = "youden"
    bootstrap_repeats: int = 1000

    def __post_init__(self) -> None:
        check_values(vars(self))
        self._check_contrastive()
        self._check_auxiliary()
        self._check_combinations()
        self._check_text_weights()
        self._check_epochs()

    def _check_combinations(self) -> None:
        """Rejects settings that do not fit together, or lists that are empty or do not sum to 1."""
        if self.warmup and self.schedule == "warmup-cosine":
            raise InputError(
                "The schedule warmup-cosine has a warm-up of its own. Set `schedule` to cosine, or leave out `warmup`."
            )
        if self.fusion_width % self.fusion_heads:
            raise InputError(
                "Setting `fusion_width` must be a multiple of `fusion_heads`. Received: "
                f"{self.fusion_width} and {self.fusion_heads}"
            )
        whole = len(self.shares) == 3 and abs(sum(self.shares) - 1) < 1e-6
        if not whole or not min(self.shares[:2]) > 0 or not self.shares[2] >= 0:
            raise InputError(
                "Setting `shares` must be three numbers that sum to 1, those of train and validation above 0. "
                f"Received: {self.shares}"
            )
        if not self.sections:
            raise InputError("Setting `sections` must name at least one section. Received none.")
        if self.image_encoder is None and self.text_encoder is None:
            raise InputError("Settings `image_encoder` and `text_encoder` must not both be none.")

    def _check_text_weights(self) -> None:
        """Rejects settings of words beside a text encoder from a folder, which brings its own."""
        if not self.text_weights:
            return
        for name in ("word_pieces", "word_vectors"):
            if getattr(self, name):
                raise InputError(f"Setting `text_weights` brings its own words. Leave out `{name}`.")
        if not self.cleaning.startswith("bert-") and self.cleaning != FitSettings.cleaning:
            raise InputError(
                "Setting `cleaning` must be bert-cased, bert-uncased or left out with `text_weights`. "
                f"Received: {self.cleaning!r}"
            )

    def _check_contrastive(self) -> None:
        """Rejects contrastive terms that nothing would train, or that mixed studies would make senseless."""
        if not self.contrastive:
            return
        if not self.contrastive_pairs:
            raise InputError("Setting `contrastive_pairs` must name at least one pair. Received none.")
        if self.image_encoder is None or self.text_encoder is None or self.members > 1:
            raise InputError(
                "Setting `contrastive` trains the joint model of a film and a report. It needs both encoders, and one "
                "member. Leave it out."
            )
        if self.mixup:
            raise InputError("Settings `contrastive` and `mixup` exclude each other: a mixture is of no one study.")

    def _check_auxiliary(self) -> None:
        """Rejects weights of auxiliary targets that are no weights, or twice the same."""
        weights = self.image_auxiliary_weights
        names = {f"{weight:g}" for weight in weights}
        if not weights or not all(0 <= weight < float("inf") for weight in weights) or len(names) < len(weights):
            raise InputError(
                "Setting `image_auxiliary_weights` must be one or more different numbers of at least 0. Received: "
                f"{', '.join(map(str, weights)) or 'none'}"
            )

    def _check_epochs(self) -> None:
        """Rejects settings under which no stage would train."""
        both = self.image_encoder is not None and self.text_encoder is not None
        tuned = both or (self.image_encoder is not None and self.image_weights and self.tune_image != "none")
        tuned = tuned or (self.text_encoder is not None and self.text_weights and self.tune_text != "none")
        stages = {
            "text_epochs": self.text_encoder is not None,
            "image_epochs": self.image_encoder is not None,
            "joint_epochs": both,
            "tune_epochs": tuned,
        }
        names = [f"`{name}`" for name, used in stages.items() if used]
        if not any(getattr(self, name) for name, used in stages.items() if used):
            raise InputError(f"One of the settings {', '.join(names)} must be at least 1. Received: 0 for all of them.")

    def as_dict(self) -> dict[str, Any]:
        """Returns a JSON-compatible dict that `from_dict` reads back."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FitSettings":
        """Makes settings from a mapping of names to values; strings are converted to the field's type.

        Raises:
            InputError: for an unknown name or a value of the wrong kind.
        """
        fields = dict(sorted(typing.get_type_hints(cls).items()))
        kinds = {name: look_up(fields, name, "setting") for name in sorted(values)}
        converted = {name: _convert(name, value, kinds[name]) for name, value in values.items()}
        if "sections" in converted:
            converted["sections"] = expand_sections(converted["sections"])
        return cls(**converted)


def expand_sections(names: Iterable[str]) -> tuple[str, ...]:
    """Lists report sections from names of sections and of sets in `SECTION_SETS`; repeated ones are dropped.

    Raises:
        InputError: for an unknown name.

    Example:
        >>> expand_sections(["pre-read"])
        ('indication', 'comparison')
    """
    expanded: list[str] = []
    for name in names:
        check_choice("sections", name, (*SECTION_SETS, *SECTIONS))
        expanded += SECTION_SETS.get(name, (name,))
    return tuple(dict.fromkeys(expanded))


def _convert(name, value, kind):
    """Converts one value of a settings file, an option or a variable to the field's type."""
    if typing.get_origin(kind) is types.UnionType:
        if value is None or value == "none":
            return None
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, str | list | tuple):
            raise InputError(f"Setting `{name}` must be a list. Received: {value!r}")
        items = _split_list(value) if isinstance(value, str) else value
        return tuple(_convert(name, item, typing.get_args(kind)[0]) for item in items)
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        raise InputError(f"Setting `{name}` must be true or false. Received: {value!r}")
    if kind is str:
        if not isinstance(value, str):
            raise InputError(f"Setting `{name}` must be text. Received: {value!r}")
        return value.strip()
    expected = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or (kind is int and isinstance(value, float) and not value.is_integer()):
        raise InputError(f"Setting `{name}` must be {expected}. Received: {value!r}")
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"Setting `{name}` must be {expected}. Received: {value!r}") from None


def _split_list(text):
    """Splits a list in one string at semicolons if it has any (MeSH headings contain commas), else at commas; `none` is
    the empty list."""
    if text.strip().lower() == "none":
        return []
    return [item for item in text.split(";" if ";" in text else ",") if item.strip()]


def read_settings(path: Path | str) -> dict[str, Any]:
    """Reads a mapping of settings from a YAML or JSON file.

    Args:
        path: of the file. JSON is a subset of YAML, so one reader serves both.

    Returns:
        dict of str to value; empty for an empty file.

    Raises:
        InputError: if the file is missing, too large, not YAML, or not a mapping.
    """
    import yaml

    path = Path(path)
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            raise InputError(f"{path}: expected a settings file of at most {MAX_SETTINGS_BYTES} bytes.")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: expected a readable settings file. Received: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(getattr(error, "problem_mark", None), "line", None)
        at = "" if place is None else f" at line {place + 1}"
        raise InputError(f"{path}: not valid YAML or JSON in UTF-8{at}; expected `name: value` lines.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected `name: value` lines. Received: {type(values).__name__}")
    return {str(name).replace("-", "_"): value for name, value in values.items()}
