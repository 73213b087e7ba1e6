"""Splits of a comparison: repeated stratified splits, folds, or the plain split of the paper."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kmm.data.groups import assign_groups
from kmm.data.split import PARTS, Split, k_folds, split_studies
from kmm.data.study import Study
from kmm.errors import InputError

MOST = 1000  # splits of one comparison


@dataclass(frozen=True)
class Resampling:
    """How studies are split, again and again.

    Attributes:
        folds: int. Folds of a cross-validation, in which each study is tested once; 0 for repeated splits.
        splits: int. Number of repeated splits; 0 for folds.
        repeats: int. Number of cross-validations, each with other folds.
        plain: bool. Splits study by study, without regard to patients and copies; such splits leak.

    Example:
        >>> Resampling(folds=5, repeats=2).count
        10
    """

    folds: int = 0
    splits: int = 0
    repeats: int = 1
    plain: bool = False

    def __post_init__(self) -> None:
        if self.folds and self.splits:
            raise InputError("Give either folds or splits, not both.")
        if self.folds == 1 or not (self.folds or self.splits) or min(self.folds, self.splits) < 0 or self.repeats < 1:
            raise InputError(
                "A comparison needs 2 or more folds, or 1 or more splits, and 1 or more repeats. Received: "
                f"folds {self.folds}, splits {self.splits}, repeats {self.repeats}."
            )
        if self.repeats > 1 and not self.folds:
            raise InputError("Repeats belong to folds. For more repeated splits, give a larger number of splits.")
        if self.plain and self.folds:
            raise InputError("The plain split of the paper has no folds. Give a number of splits instead.")
        if self.count > MOST:
            raise InputError(f"A comparison has at most {MOST} splits. Received: {self.count}.")

    @property
    def count(self) -> int:
        """Number of splits in total."""
        return self.folds * self.repeats or self.splits

    @property
    def tested_once(self) -> int:
        """Number of the first splits in which no study is tested twice: all folds, or a single split; else 0."""
        return self.folds or int(self.splits == 1)

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for JSON."""
        return asdict(self)

    def make(
        self, studies: Sequence[Study], *, shares: Sequence[float], seed: int, label_names: Sequence[str]
    ) -> list[Split]:
        """Splits studies, stratified by label.

        Args:
            studies: sequence of `Study` with their labels and, to keep copies together, the `pixel_digest` of films.
            shares: floats of train, validation and test. Of folds only that of validation counts.
            seed: int, 0 or more. The same seed gives the same splits; more splits only add to them.
            label_names: names of the labels to stratify by.

        Returns:
            list of `count` `Split`.

        Example:
            >>> studies = [Study(str(n), patient=str(n), labels={"abnormal": n % 2}) for n in range(40)]
            >>> splits = Resampling(splits=2).make(studies, shares=(0.5, 0.25, 0.25), seed=0, label_names=["abnormal"])
            >>> [len(split.part("test")) for split in splits], splits[0].digest == splits[1].digest
            ([10, 10], False)
        """
        if self.folds:
            return k_folds(
                studies, self.folds, repeats=self.repeats, seed=seed, validation=shares[1], label_names=label_names
            )
        make = _split_plainly if self.plain else split_studies
        return [
            make(studies, shares=shares, seed=seed + number, label_names=label_names) for number in range(self.splits)
        ]

    def describe(self) -> str:
        """Describes the splits in a few words.

        Example:
            >>> Resampling(folds=5).describe(), Resampling(splits=10, plain=True).describe()
            ('5-fold cross-validation', '10 plain splits by study')
        """
        if self.folds:
            times = f", repeated {self.repeats} times" if self.repeats > 1 else ""
            return f"{self.folds}-fold cross-validation{times}"
        return f"{self.splits} {'plain splits by study' if self.plain else 'stratified splits by patient'}"


def _split_plainly(studies, *, shares, seed, label_names):
    """Splits as published: stratified, each study for itself."""
    studies = sorted(studies, key=lambda study: study.id)
    dealt = assign_groups([[study] for study in studies], shares, np.random.default_rng(seed), label_names=label_names)
    parts = {study.id: part for part, groups in zip(PARTS, dealt) for group in groups for study in group}
    return Split({study.id: parts[study.id] for study in studies}, {study.id: study.patient for study in studies})


def restrict_split(split: Split, studies: Sequence[Study]) -> Split:
    """Returns the split of some of its studies, in their order; studies that it does not name are left out.

    Variants that read other sections may have other studies, and still share the splits.

    Example:
        >>> split = Split({"1": "train", "2": "test"}, {"1": "a", "2": "b"})
        >>> restrict_split(split, [Study("2", "b")]).parts
        {'2': 'test'}
    """
    named = [study for study in studies if study.id in split.parts]
    return Split({study.id: split.parts[study.id] for study in named}, {study.id: study.patient for study in named})
