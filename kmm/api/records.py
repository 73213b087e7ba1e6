"""Lists of records that do not print their text, and become frames."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from kmm.errors import require

if TYPE_CHECKING:
    import pandas


class Records(list[dict[str, Any]]):
    """A list of dicts with the same keys. `repr` shows their number alone, as they may quote a report.

    Slices and sums are `Records` too.

    Args:
        rows: iterable of mappings.
        noun: str, what a row is, in the plural.

    Example:
        >>> words = Records([{"text": "mass", "signed": 0.4}], "words")
        >>> words, words[0]["signed"]
        (<1 words: text, signed>, 0.4)
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], noun: str) -> None:
        super().__init__(map(dict, rows))
        self.noun = noun

    def to_frame(self) -> "pandas.DataFrame":
        """Returns a pandas frame with a row per record.

        Raises:
            MissingPackageError: if pandas is not installed.
        """
        return require("pandas", "pandas").DataFrame(list(self))

    @overload
    def __getitem__(self, place: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> "Records": ...
    def __getitem__(self, place: SupportsIndex | slice) -> "dict[str, Any] | Records":
        return (
            Records(super().__getitem__(place), self.noun) if isinstance(place, slice) else super().__getitem__(place)
        )

    def __add__(self, other: list[Any]) -> "Records":  # type: ignore[override]
        return Records(super().__add__(other), self.noun)

    def copy(self) -> "Records":
        """Returns a copy."""
        return self[:]

    def __repr__(self) -> str:
        keys = f": {', '.join(self[0])}" if self else ""
        return f"<{len(self)} {self.noun}{keys}>"
