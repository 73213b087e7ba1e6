"""Rendering of HTML pages: the Jinja environment, its filters, pictures as data URLs, and the security policy.

A page is one file that loads nothing from outside. Every value is escaped by Jinja. The Content-Security-Policy allows
only the page's own style and script, identified by their SHA-256, and its own pictures. So even text that was not
escaped could not run.
"""

import base64
import hashlib
import math
import re
from functools import cache, partial
from importlib.resources import files
from typing import Any, TypeGuard

import jinja2
import numpy as np
from markupsafe import Markup

from kmm.explain.decision import format_probability

FORBIDDEN = re.compile(  # characters that HTML forbids, and lone UTF-16 surrogates, which UTF-8 forbids
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)


def replace_forbidden_characters(value: Any) -> str:
    r"""Converts a value to text that is valid in HTML: forbidden characters become U+FFFD. Markup is unchanged.

    Example:
        >>> replace_forbidden_characters("\x00") == "\ufffd", replace_forbidden_characters(3)
        (True, '3')
    """
    return value if isinstance(value, Markup) else FORBIDDEN.sub("\ufffd", str(value))


def is_known(value: float | None) -> TypeGuard[float]:
    """Returns whether a number is known: false for None, NaN and infinities."""
    return value is not None and math.isfinite(value)


def format_number(value: float | None, sign: str = "") -> str:
    """Formats a number to three digits, with `sign` as in a format specification; an en dash when it is unknown.

    Example:
        >>> format_number(0.123456), format_number(2.0, "+"), format_number(float("nan"))
        ('0.123', '+2', '–')
    """
    return format(value, f"{sign}.3g").replace("-", "−") if is_known(value) else "–"


def format_percent(value: float | None) -> str:
    """Formats a share as percent with one decimal; an en dash when it is unknown.

    Example:
        >>> format_percent(0.1234), format_percent(None)
        ('12.3 %', '–')
    """
    return f"{100 * value:.1f} %" if is_known(value) else "–"


def encode_png(pixels: np.ndarray) -> str:
    """Encodes pixels as a PNG in a `data:` URL.

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
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode("ascii")


def render_template(
    name: str,
    script: str | None,
    *,
    package: str = "kmm.explain.output",
    sheet: str | tuple[str, ...] = "page.css",
    pictures: str = "data:",
    **values: Any,
) -> str:
    """Renders a template with its style sheet and at most one script.

    Args:
        name: str. The template, for example `"page.html"`; one of another package is called `"kmm.pages/page.html"`.
        script: str or None. The script, for example `"page.js"`; None: the page has none, and its policy allows none.
        package: str. The package that contains the template, the script and the style sheet.
        sheet: str, or tuple of str. The style sheet, with its package if that is another one; of several, one after the
            other.
        pictures: str. Where the policy lets pictures come from; they are part of the page by default.
        **values: values for the template. Text is escaped. A value that the template does not use is ignored; one that
            it lacks is an error.

    Returns:
        str. The page.
    """
    style = "".join(_read_template(package, one) for one in ((sheet,) if isinstance(sheet, str) else sheet))
    code = _read_template(package, script) if script else ""
    scripts = f"script-src {_digest(code)}; " if script else ""
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; {scripts}base-uri 'none'; form-action 'none'; "
        f"img-src {pictures}"
    )
    return (
        _make_environment(package)
        .get_template(name)
        .render(values, policy=Markup(policy), style=Markup(style), script=Markup(code))
        .lstrip()
    )


@cache
def _make_environment(package):
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(partial(_read_template, package)),
        autoescape=True,
        finalize=replace_forbidden_characters,
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


def _read_template(package, name):
    package, name = name.split("/") if "/" in name else (package, name)
    return files(package).joinpath(name).read_text(encoding="utf-8")
