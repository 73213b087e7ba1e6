"""Answers over HTTP, before a connection sends them."""

import json
from dataclasses import dataclass, field

from kmm.server.status import HTTP_STATUS, truncate

JSON = "application/json"


@dataclass
class Answer:
    """What is sent for a request.

    Attributes:
        status: int, the code of HTTP.
        chunks: list of bytes, the body in parts, which are sent one at a time.
        headers: dict of str to str, besides those that each answer has.
        media_type: str; None for an answer without a body.
    """

    status: int
    chunks: list
    headers: dict = field(default_factory=dict)
    media_type: str | None = JSON

    @property
    def size(self):
        """The length of the body in bytes."""
        return sum(map(len, self.chunks))


def write_json_answer(value):
    """A value as JSON in ASCII, as bytes."""
    return json.dumps(value).encode("ascii")


def tell(value, status=200):
    """An answer with a value as JSON."""
    return Answer(status, [write_json_answer(value)])


def tell_text(status, text, **headers):
    """An answer with an error.

    Args:
        status: int, the code of HTTP.
        text: str. One line.
        headers: str; underscores in their names become hyphens.

    Example:
        >>> answer = tell_text(405, "No such method: PUT", Allow="GET, HEAD")
        >>> answer.status, answer.chunks, answer.headers
        (405, [b'{"error": "No such method: PUT"}'], {'Allow': 'GET, HEAD'})
    """
    return Answer(
        status,
        [write_json_answer({"error": truncate(text)})],
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


def tell_error(error):
    """An answer with a `ServingError`.

    Example:
        >>> from kmm.server.status import ServingError
        >>> tell_error(ServingError("NOT_FOUND", "No such model.")).status
        404
    """
    headers = {"WWW_Authenticate": "Bearer"} if error.code == "UNAUTHENTICATED" else {}
    return tell_text(HTTP_STATUS[error.code], str(error), **headers)
