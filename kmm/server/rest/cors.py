"""Let web pages of listed origins call the server: cross-origin resource sharing.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Iterable

from kmm.server.rest.answer import HttpAnswer, answer_text

ANY = "*"
PREFLIGHT_SECONDS = 600  # time for which a browser caches the answer to a preflight request
_METHODS, _HEADERS = "GET, POST", "Authorization, Content-Type, Content-Encoding"


class Cors:
    """Tells browsers which origins may read answers.

    No answer allows credentials (cookies, certificates that the browser adds); a page sends its token itself.

    Args:
        origins: iterable of str, such as `"https://viewer.example"`; `"*"` is any. Empty allows no other origin.

    Example:
        >>> cors = Cors(("https://viewer.example",))
        >>> cors.list_headers("https://viewer.example")["Access-Control-Allow-Origin"]
        'https://viewer.example'
        >>> cors.list_headers("https://other.example")
        {'Vary': 'Origin'}
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)

    def list_headers(self, origin: str) -> dict[str, str]:
        """Lists the CORS headers of an answer.

        Args:
            origin: str, the header `Origin` of the request; "" if it has none.
        """
        if not self._origins:
            return {}
        if ANY in self._origins:
            return {"Access-Control-Allow-Origin": ANY}
        allowed = {"Access-Control-Allow-Origin": origin} if origin in self._origins else {}
        return {**allowed, "Vary": "Origin"}

    def answer_preflight(self, origin: str) -> HttpAnswer | None:
        """Returns the answer to OPTIONS, which a browser sends before a request; None if no origin is allowed."""
        if not self._origins:
            return None
        if ANY not in self._origins and origin not in self._origins:
            return answer_text(403, "This origin is not allowed (--cors-origin).")
        headers = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }
        return HttpAnswer(204, [], headers, None)
