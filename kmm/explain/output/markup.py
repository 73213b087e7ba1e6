"""HTML pages from templates: the Jinja environment, its filters, pictures as data, and the security policy.

A page is one file that asks for nothing outside itself. Every value is escaped by the engine. Its
Content-Security-Policy forbids everything but its own style and script, named by their SHA-256, and its own pictures,
so even text that escaped its quoting could not run.
"""

import base64
import hashlib
import math
import re
from functools import cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from kmm.explain.decision import format_probability

FORBIDDEN = re.compile(  # characters that HTML may not hold, and halves of UTF-16 pairs, which UTF-8 may not
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)


def clean_text(value):
    r"""Any value as text that HTML may hold: characters that it forbids become U+FFFD. Markup stays.

    Example:
        >>> clean_text("\x00") == "\ufffd", clean_text(3)
        (True, '3')
    """
    return value if isinstance(value, Markup) else FORBIDDEN.sub("\ufffd", str(value))


def is_known(value):
    """False for None, NaN and infinities."""
    return value is not None and math.isfinite(value)


def format_number(value, sign=""):
    """A number to three digits with `sign` as in a format specification; an en dash when it is not known.

    Example:
        >>> format_number(0.123456), format_number(2.0, "+"), format_number(float("nan"))
        ('0.123', '+2', '–')
    """
    return format(value, f"{sign}.3g").replace("-", "−") if is_known(value) else "–"


def format_percent(value):
    """A share as percent with one decimal; an en dash when it is not known.

    Example:
        >>> format_percent(0.1234), format_percent(None)
        ('12.3 %', '–')
    """
    return f"{100 * value:.1f} %" if is_known(value) else "–"


def encode_png(pixels):
    """Pixels as a `data:` address.

    Args:
        pixels: uint8 array `(h, w)`, grey, or `(h, w, 4)`, RGBA.

    Example:
        >>> import numpy as np
        >>> encode_png(np.zeros((1, 1), np.uint8))[:22]
        'data:image/png;base64,'
    """
    import cv2

    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA)
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", pixels)[1]).decode("ascii")


def render_template(name, script, **values):
    """Fills a template of this folder; it is given the style `page.css` and one script besides.

    Args:
        name: str. The template, `"page.html"` or `"index.html"`.
        script: str. The script, `"page.js"` or `"index.js"`.
        **values: what the template shows. Text is escaped; a name that the template does not know is ignored, one that
            it misses is an error.

    Returns:
        str. The page.
    """
    style, code = _read_template("page.css"), _read_template(script)
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(code)}; base-uri 'none'; "
        "form-action 'none'"
    )
    return (
        _make_environment()
        .get_template(name)
        .render(values, policy=Markup(policy), style=Markup(style), script=Markup(code))
        .lstrip()
    )


@cache
def _make_environment():
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read_template),
        autoescape=True,
        finalize=clean_text,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=format_number, percent=format_percent, probability=format_probability, known=is_known
    )
    return environment


def _digest(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _read_template(name):
    return files("kmm.explain.output").joinpath(name).read_text(encoding="utf-8")
