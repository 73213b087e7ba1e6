"""Lists of records that do not print their text, and become frames."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kmm.errors import require

if TYPE_CHECKING:
    import pandas


class Records(list[dict[str, Any]]):
    """A list of dicts with the same keys. `repr` shows their number alone, as they may quote a report.

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

    def __repr__(self) -> str:
        keys = f": {', '.join(self[0])}" if self else ""
        return f"<{len(self)} {self.noun}{keys}>"
