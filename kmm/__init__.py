"""kmm: classifiers of chest films and their reports, with the regions and words behind each decision.

The public names are those of `__all__`; modules below may be renamed between versions. Each name is imported on first
use, so that `import kmm` loads neither NumPy nor Keras; docs/python.md has an example of each:

    read         reads the studies of a folder, a manifest, or images
    studies      makes studies from a DataFrame, records or arrays in memory
    fit          trains a classifier on studies
    compare      compares models and baselines over many splits of studies
    load         reads a saved classifier
    Classifier   a trained classifier: predicts, evaluates, explains, exports and saves
    Client       a connection to a served classifier
    read_film    reads one film file to gray levels
    KmmError     base class of every error that kmm raises on purpose, see `kmm.errors`

    register_image_encoder, register_text_encoder    add an encoder of your own under a name

`kmm.sklearn.StudyClassifier` is the same as a scikit-learn estimator.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmm.api.classifier import Classifier as Classifier
    from kmm.api.comparing import compare as compare
    from kmm.api.fitting import fit as fit
    from kmm.api.fitting import load as load
    from kmm.api.inputs import read as read
    from kmm.api.inputs import studies as studies
    from kmm.batches import read_film as read_film
    from kmm.client.sync import Client as Client
    from kmm.errors import KmmError as KmmError
    from kmm.models.registration import register_image_encoder as register_image_encoder
    from kmm.models.registration import register_text_encoder as register_text_encoder

__version__ = "0.2.0"
__all__ = [
    "Classifier",
    "Client",
    "KmmError",
    "__version__",
    "compare",
    "fit",
    "load",
    "read",
    "read_film",
    "register_image_encoder",
    "register_text_encoder",
    "studies",
]
_LAZY = {
    "Client": "kmm.client.sync",
    "KmmError": "kmm.errors",
    "read": "kmm.api.inputs",
    "read_film": "kmm.batches",
    "studies": "kmm.api.inputs",
}
_WITH_KERAS = {
    "Classifier": "kmm.api.classifier",
    "compare": "kmm.api.comparing",
    "fit": "kmm.api.fitting",
    "load": "kmm.api.fitting",
    "register_image_encoder": "kmm.models.registration",
    "register_text_encoder": "kmm.models.registration",
    "sklearn": "kmm.sklearn",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name not in _WITH_KERAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kmm.keras_backend import load_keras_quietly

    with load_keras_quietly():
        module = importlib.import_module(_WITH_KERAS[name])
    return module if name == "sklearn" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
