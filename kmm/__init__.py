"""kmm: classifiers on chest films and their reports, with the places and words that carried each decision.

`kmm.Classifier` is `kmm.classifier.Classifier`. It is imported, and Keras with it, when it is first asked for.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["Classifier", "__version__"]
_LAZY = {"Classifier": "kmm.classifier"}


def __getattr__(name):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__():
    return sorted({*globals(), *__all__})
