"""Parts that studies have from the start: those of collections of their own, and those of a publication."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from kmm.data.groups import find_keys
from kmm.data.split import PARTS, Split, restrict_split, split_studies
from kmm.data.study import Problem, Study


@dataclass(frozen=True)
class GivenParts:
    """The parts of studies from several collections, or of one that was published with parts. Validation and test, if
    given, stay as they are; the parts that are not given are taken from the training studies once these are read,
    because their films belong to the keys of a split.

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

    def find_leaks(self, studies: Iterable[Study]) -> list[Problem]:
        """Finds the studies that a published split must lose so that it does not leak: those of training that share a
        patient, a report body or a film with validation or test, and those of validation that share one with test.

        Args:
            studies: sequence of `Study`, with the `pixel_digest` of their films. Those without a part are ignored.

        Returns:
            list of `Problem`, each with the source `"study <id>"`.

        Example:
            >>> given = GivenParts({"1": "train", "2": "train", "3": "test"})
            >>> [str(problem) for problem in given.find_leaks([Study("1", "a"), Study("2", "b"), Study("3", "a")])]
            ['study 1: left out of train, because the same patient is in test']
        """
        placed = [study for study in studies if study.id in self.parts]
        held: dict[tuple[str, str], str] = {}
        problems = []
        for part in reversed(PARTS):
            members = [(study, find_keys(study)) for study in placed if self.parts[study.id] == part]
            kept = []
            for study, keys in members:
                shared = next((key for key in keys if key in held), None)
                if shared is None:
                    kept += keys
                else:
                    reason = f"left out of {part}, because the same {_KINDS[shared[0]]} is in {held[shared]}"
                    problems.append(Problem(f"study {study.id}", reason))
            held |= dict.fromkeys(kept, part)
        return problems


_KINDS = {"patient": "patient", "body": "report body", "film": "film"}  # of the keys of a split
