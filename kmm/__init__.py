"""kmm: classifiers of chest films and their reports, with the regions and words behind each decision.

The public names are those of `__all__`; modules below may be renamed between versions. Each name is imported on first
use, so that `import kmm` loads neither NumPy nor Keras:

    Classifier   a trained classifier: `kmm.Classifier.load(folder)`, see `kmm.classifier.Classifier`
    read_film    reads one film file to gray levels, see `kmm.batches.read_film`
    KmmError     base class of every error that kmm raises on purpose, see `kmm.errors`
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmm.batches import read_film as read_film
    from kmm.classifier import Classifier as Classifier
    from kmm.errors import KmmError as KmmError

__version__ = "0.2.0"
__all__ = ["Classifier", "KmmError", "__version__", "read_film"]
_LAZY = {"Classifier": "kmm.classifier", "KmmError": "kmm.errors", "read_film": "kmm.batches"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
