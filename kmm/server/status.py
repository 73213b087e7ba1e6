"""Canonical status codes, and the error that gRPC and HTTP turn into an answer."""

from kmm.errors import KmmError

NUMBERS = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
NAMES = {number: name for name, number in NUMBERS.items()}
HTTP_STATUS = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
MOST_CHARACTERS = 1024


class ServingError(KmmError):
    """A request that cannot be answered.

    Args:
        code: str, a key of `NUMBERS`.
        text: str. Message for the client. It is never logged, since an error of the graph may quote the request.

    Example:
        >>> ServingError("NOT_FOUND", "Could not find any versions of model film").code
        'NOT_FOUND'
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def refuse(text: str) -> ServingError:
    """Returns the error for an invalid request."""
    return ServingError("INVALID_ARGUMENT", text)


def truncate(text: str) -> str:
    """Shortens the text of an error to 1024 characters, followed by a mark if something was cut off.

    Example:
        >>> truncate("short"), len(truncate("x" * 2000)), truncate("x" * 2000)[-12:]
        ('short', 1036, '...TRUNCATED')
    """
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "...TRUNCATED"
