"""Parts that some studies have from the start, while the others are still to be split."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from kmm.data.split import PARTS, Split, restrict_split, split_studies
from kmm.data.study import Study


@dataclass(frozen=True)
class GivenParts:
    """The parts of studies from several collections. Validation and test, if given, stay as they are; the parts that
    are not given are taken from the training studies once these are read, because their films belong to the keys of a
    split.

    Attributes:
        parts: mapping of study id to `"train"`, `"validation"` or `"test"`.

    Example:
        >>> studies = [Study(str(n), patient=str(n), labels={"abnormal": n % 2}) for n in range(10)]
        >>> given = GivenParts({study.id: "test" if study.id in "89" else "train" for study in studies})
        >>> split = given.complete(studies, shares=(0.6, 0.2, 0.2))
        >>> [len(split.part(name)) for name in PARTS], split.part("test")
        ([6, 2, 2], ('8', '9'))
    """

    parts: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the sorted parts, in hexadecimal."""
        return hashlib.sha256(json.dumps(sorted(self.parts.items())).encode()).hexdigest()

    def complete(
        self,
        studies: Sequence[Study],
        *,
        shares: Sequence[float],
        seed: int = 0,
        label_names: Sequence[str] | None = None,
    ) -> Split:
        """Splits the training studies between training and the parts that are not given, in the ratio of their shares.

        Args:
            studies: sequence of `Study`, all of which have a part.
            shares: three floats, of train, validation and test. Those of given parts do not count.
            seed, label_names: as in `kmm.data.split.split_studies`.

        Returns:
            `Split` of these studies.

        Raises:
            InputError: if there are too few training studies.
        """
        given = set(self.parts.values()) - {"train"}
        left = [0.0 if part in given else share for part, share in zip(PARTS, shares, strict=True)]
        parts = dict(self.parts)
        if any(left[1:]):
            rest = [study for study in studies if parts[study.id] == "train"]
            wanted = [share / sum(left) for share in left]
            parts |= split_studies(rest, shares=wanted, seed=seed, label_names=label_names).parts
        return restrict_split(parts, studies)
