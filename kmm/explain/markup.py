"""What HTML pages are made of: escaped text, numbers, bars, pictures, and a template with its security policy.

A page is one file that asks for nothing outside itself. Its Content-Security-Policy forbids everything but its own
style and script, named by their SHA-256, and its own pictures, so even text that escaped its quoting could not run.
"""

import base64
import hashlib
import html
import math
import re
from importlib.resources import files
from string import Template

import numpy as np

from kmm.errors import InputError

FORBIDDEN = re.compile(  # characters that HTML may not hold, and halves of UTF-16 pairs, which UTF-8 may not
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)


def escape(text):
    r"""Any text as HTML text or attribute value; characters that HTML forbids become U+FFFD.

    Example:
        >>> escape('<b title="x">')
        '&lt;b title=&quot;x&quot;&gt;'
        >>> escape("\x00") == "\ufffd"
        True
    """
    return html.escape(FORBIDDEN.sub("\ufffd", str(text)))


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


def format_probability(value):
    """A probability with three decimals; an en dash when it is not known.

    Example:
        >>> format_probability(0.5), format_probability(None)
        ('0.500', '–')
    """
    return f"{value:.3f}" if is_known(value) else "–"


def draw_bar(share, kind="", tick=None):
    """A bar of a share in [0, 1] as an SVG element of CSS class `kind`, with an optional tick at another share."""
    width = 100 * min(max(share, 0.0), 1.0) if is_known(share) else 0
    line = f'<line x1="{100 * tick:.2f}" x2="{100 * tick:.2f}" y1="0" y2="10"/>' if is_known(tick) else ""
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" width="{width:.2f}" height="10"/>{line}</svg>'
    )


def encode_png(pixels):
    """Pixels as a `data:` address.

    Args:
        pixels: uint8 array `(h, w)`, grey, or `(h, w, 4)`, RGBA.

    Example:
        >>> encode_png(np.zeros((1, 1), np.uint8))[:22]
        'data:image/png;base64,'
    """
    import cv2

    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA)
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", pixels)[1]).decode("ascii")


def shrink_film(film, longest):
    """A film `(h, w)` averaged down so that its longest side is at most `longest` pixels; smaller ones stay.

    Example:
        >>> shrink_film(np.zeros((50, 200), np.uint8), 100).shape
        (25, 100)
    """
    import cv2

    if film.dtype != np.uint8 or film.ndim != 2 or film.size == 0:
        raise InputError(f"The film must be a uint8 array (height, width). Received: {film.dtype} {film.shape}.")
    scale = longest / max(film.shape)
    if scale >= 1:
        return film
    height, width = (max(1, round(side * scale)) for side in film.shape)
    return cv2.resize(film, (width, height), interpolation=cv2.INTER_AREA)


def fill_template(name, script, **parts):
    """Fills a template of this folder with parts that are HTML already, the style `page.css`, and one script.

    Args:
        name: str. The template, `"page.html"` or `"index.html"`.
        script: str. The script, `"page.js"` or `"index.js"`.
        **parts: str. What stands for each `$name` of the template, but for `$policy`, `$style` and `$script`.

    Returns:
        str. The page.
    """
    style, code = _read_template("page.css"), _read_template(script)
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(code)}; base-uri 'none'; "
        "form-action 'none'"
    )
    return Template(_read_template(name)).substitute(parts, policy=policy, style=style, script=code)


def _digest(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _read_template(name):
    return files("kmm.explain").joinpath(name).read_text(encoding="utf-8")
