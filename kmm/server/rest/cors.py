"""Which web pages may call the server: cross-origin resource sharing, by a list of origins.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from kmm.server.rest.answer import Answer, tell_text

ANY = "*"
PREFLIGHT_SECONDS = 600  # for which a browser keeps the answer to a preflight
_METHODS, _HEADERS = "GET, POST", "Authorization, Content-Type, Content-Encoding"


class Cors:
    """Tells browsers which origins may read answers.

    No answer allows credentials (cookies, certificates that the browser adds): a page sends the token itself.

    Args:
        origins: tuple of str, such as `"https://viewer.example"`; `"*"` is any. Empty: no page of another origin.

    Example:
        >>> cors = Cors(("https://viewer.example",))
        >>> cors.list_headers("https://viewer.example")["Access-Control-Allow-Origin"]
        'https://viewer.example'
        >>> cors.list_headers("https://other.example")
        {'Vary': 'Origin'}
    """

    def __init__(self, origins):
        self._origins = frozenset(origins)

    def list_headers(self, origin):
        """The headers of an answer.

        Args:
            origin: str, the header `Origin` of the request; "" where there was none.
        """
        if not self._origins:
            return {}
        if ANY in self._origins:
            return {"Access-Control-Allow-Origin": ANY}
        allowed = {"Access-Control-Allow-Origin": origin} if origin in self._origins else {}
        return {**allowed, "Vary": "Origin"}

    def answer_preflight(self, origin):
        """The answer to OPTIONS, with which a browser asks before it sends a request; None where no page may ask."""
        if not self._origins:
            return None
        if ANY not in self._origins and origin not in self._origins:
            return tell_text(403, "This origin is not allowed (--cors-origin).")
        headers = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }
        return Answer(204, [], headers, None)
