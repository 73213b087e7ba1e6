"""Limit the pixels of all films of a request, since a small file can hold a very large film."""

from collections.abc import Iterable

from kmm.server.status import refuse


class PixelBudget:
    """Counts the pixels of a request before any film is decoded.

    Args:
        most: int. Most pixels per request.

    Example:
        >>> budget = PixelBudget(2_000_000)
        >>> budget.spend([750_000, 750_000])
        >>> budget.spend([750_000])
        Traceback (most recent call last):
        kmm.server.status.ServingError: The films of this request have 2,250,000 pixels in all; at most 2,000,000 are \
allowed. Send fewer films at a time.
    """

    def __init__(self, most: int) -> None:
        self._most, self._spent = most, 0

    def spend(self, pixels: Iterable[int]) -> None:
        """Counts films that are about to be decoded; a repeated film counts each time.

        Args:
            pixels: list of int. Pixels of each film.

        Raises:
            ServingError: INVALID_ARGUMENT if the request exceeds its limit.
        """
        self._spent += sum(pixels)
        if self._spent > self._most:
            raise refuse(
                f"The films of this request have {self._spent:,} pixels in all; at most {self._most:,} are allowed. "
                "Send fewer films at a time."
            )
