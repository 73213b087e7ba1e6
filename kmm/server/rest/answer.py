"""Build answers over HTTP, before a connection sends them."""

import json
from dataclasses import dataclass, field
from typing import Any

from kmm.server.status import HTTP_STATUS, ServingError, truncate

JSON = "application/json"


@dataclass
class HttpAnswer:
    """An answer to a request over HTTP.

    Attributes:
        status: int, the HTTP status code.
        chunks: list of bytes. Parts of the body, sent one at a time.
        headers: dict of str to str, besides the headers that every answer has.
        media_type: str; None for an answer without a body.
    """

    status: int
    chunks: list[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str | None = JSON

    @property
    def size(self) -> int:
        """int: length of the body in bytes."""
        return sum(map(len, self.chunks))


def write_json_answer(value: Any) -> bytes:
    """Encodes a value as JSON in ASCII."""
    return json.dumps(value).encode("ascii")


def answer_json(value: Any, status: int = 200) -> HttpAnswer:
    """Builds an answer with a value as JSON."""
    return HttpAnswer(status, [write_json_answer(value)])


def answer_text(status: int, text: str, **headers: str) -> HttpAnswer:
    """Builds an answer with the text of an error.

    Args:
        status: int, the HTTP status code.
        text: str. One line.
        headers: str. Further headers; underscores in their names become hyphens.

    Example:
        >>> answer = answer_text(405, "No such method: PUT", Allow="GET, HEAD")
        >>> answer.status, answer.chunks, answer.headers
        (405, [b'{"error": "No such method: PUT"}'], {'Allow': 'GET, HEAD'})
    """
    return HttpAnswer(
        status,
        [write_json_answer({"error": truncate(text)})],
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


def answer_error(error: ServingError) -> HttpAnswer:
    """Builds the answer for a `ServingError`.

    Example:
        >>> answer_error(ServingError("NOT_FOUND", "No such model.")).status
        404
    """
    headers = {"WWW_Authenticate": "Bearer"} if error.code == "UNAUTHENTICATED" else {}
    return answer_text(HTTP_STATUS[error.code], str(error), **headers)
