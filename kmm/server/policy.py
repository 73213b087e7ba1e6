"""Choose the versions of a model that are served."""

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from kmm.errors import InputError

LATEST, ALL, SPECIFIC = "latest", "all", "specific"
MOST_VERSION = 2**63 - 1  # TensorFlow Serving's versions are of type int64


@dataclass(frozen=True)
class VersionPolicy:
    """A choice among the versions of a folder.

    Attributes:
        kind: `"latest"`, `"all"` or `"specific"`.
        count: int, at least 1. Number of highest versions that `"latest"` serves.
        versions: tuple of int. Versions that `"specific"` serves.
    """

    kind: str = LATEST
    count: int = 1
    versions: tuple[int, ...] = ()

    def choose(self, found: Iterable[int], labelled: Container[int] = ()) -> list[int]:
        """Chooses the versions to serve.

        `"latest"` also keeps versions with a label, so that a label does not lose its version to a newer one.

        Args:
            found: iterable of int. Versions in the folder, in any order.
            labelled: container of int. Versions that a label names.

        Returns:
            list of int, highest first; empty if the policy names none of the versions found.

        Example:
            >>> VersionPolicy("latest", count=2).choose([1, 10, 9, 8], labelled=[1])
            [10, 9, 1]
        """
        ordered = sorted(found, reverse=True)
        if self.kind == LATEST:
            return ordered[: self.count] + [version for version in ordered[self.count :] if version in labelled]
        return [version for version in ordered if self.kind == ALL or version in self.versions]


def parse_policy(text: str) -> VersionPolicy:
    """Parses a policy: `latest`, `latest:2`, `all`, or numbers separated by commas.

    Raises:
        InputError: if the text is not a policy.

    Example:
        >>> parse_policy("latest:2"), parse_policy("3,5").versions
        (VersionPolicy(kind='latest', count=2, versions=()), (3, 5))
    """
    kind, _, count = text.partition(":")
    if kind == LATEST and re.fullmatch("[1-9][0-9]{0,3}|", count):
        return VersionPolicy(LATEST, count=int(count or 1))
    if text == ALL:
        return VersionPolicy(ALL)
    numbers = text.split(",")
    versions = tuple(version for number in numbers if (version := parse_version(number.strip())) is not None)
    if len(versions) == len(numbers):
        return VersionPolicy(SPECIFIC, versions=versions)
    raise InputError(f"{text!r} is not a choice of versions. Write latest, latest:2, all or 3,5.")


def parse_version(text: str) -> int | None:
    """Parses a version number as TensorFlow Serving does; leading zeros are allowed.

    Args:
        text: str.

    Returns:
        int in [0, 2**63 - 1], or None if the text is not such a number.

    Example:
        >>> parse_version("007"), parse_version("9223372036854775807"), parse_version("9223372036854775808")
        (7, 9223372036854775807, None)
    """
    if not re.fullmatch(r"0*[0-9]{1,19}", text, re.ASCII):
        return None
    version = int(text.lstrip("0") or "0")
    return version if version <= MOST_VERSION else None


def list_versions(folder: Path | str) -> dict[int, Path]:
    """Lists the versions in a model's folder: its subfolders whose names are whole numbers.

    If several names mean the same number, such as `1` and `001`, the shortest is used.

    Args:
        folder: path.

    Returns:
        dict of version to Path, lowest first; empty if there is no version.

    Raises:
        OSError: if the folder cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("2", "10", "010", ".tmp-11", "notes"):
        ...         Path(folder, name).mkdir()
        ...     [path.name for path in list_versions(folder).values()]
        ['2', '10']
    """
    found = {}
    for path in sorted(Path(folder).iterdir(), key=lambda path: (-len(path.name), path.name)):
        version = parse_version(path.name)
        if version is not None and path.is_dir():
            found[version] = path
    return dict(sorted(found.items()))
