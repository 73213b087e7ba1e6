"""How many pixels the films of one request may have in all: a small file can hold many."""

from kmm.server.status import refuse


class PixelBudget:
    """Counts the pixels of a request before any of them is decoded.

    Args:
        most: int. Pixels of one request.

    Example:
        >>> budget = PixelBudget(2_000_000)
        >>> budget.spend([750_000, 750_000])
        >>> budget.spend([750_000])
        Traceback (most recent call last):
        kmm.server.status.ServingError: The films of this request have 2,250,000 pixels in all; at most 2,000,000 are \
allowed. Send fewer films at a time.
    """

    def __init__(self, most):
        self._most, self._spent = most, 0

    def spend(self, pixels):
        """Counts films that are about to be decoded; the same film counts each time.

        Args:
            pixels: list of int.

        Raises:
            ServingError: INVALID_ARGUMENT if there are more pixels than the request may have.
        """
        self._spent += sum(pixels)
        if self._spent > self._most:
            raise refuse(
                f"The films of this request have {self._spent:,} pixels in all; at most {self._most:,} are allowed. "
                "Send fewer films at a time."
            )
