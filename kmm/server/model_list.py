"""The models that an operator wants served: of the command line and of a file that may change."""

import re
from dataclasses import replace

from kmm.errors import InputError
from kmm.server.policy import parse_version
from kmm.server.settings import parse_models
from kmm.server.watching import WatchedFiles

_LABEL = re.compile(r"(?:(?P<model>[^:=]+):)?(?P<label>[^:=/\s]+)=(?P<version>[0-9]+)")


class ModelList:
    """A list of models. What does not come from the file stays as it is when the file changes.

    Args:
        models: list of `ModelSettings`.
        file: path of a `ModelServerConfig` in text form with more models, or None.
        labels: list of str, `MODEL:LABEL=VERSION`, or `LABEL=VERSION` where there is one model. They win over those of
            the file.

    Raises:
        InputError: if there is no model, a name comes twice, the file cannot be read or is no such text, or a label
            is not of such a form or of another model.

    Example:
        >>> from kmm.server.settings import parse_model
        >>> ModelList([parse_model("film=saved_models/film")], labels=["stable=3"]).models[0].labels
        {'stable': 3}
    """

    def __init__(self, models=(), file=None, labels=()):
        def parse(*contents):
            read = [model for content in contents for model in parse_models(content, file)]
            return _add_labels(_check_names([*models, *read]), labels)

        self._watched = WatchedFiles("models", [(file, "a list of models")] if file else [], parse)

    @property
    def models(self):
        """The current list of `ModelSettings`."""
        return self._watched.value

    def reload(self, *, at_once=False):
        """Reads the file again, see `WatchedFiles.reload`."""
        return self._watched.reload(at_once=at_once)


def _check_names(models):
    names = [model.name for model in models]
    if not models:
        raise InputError("Expected a folder of a model, or --models FILE. Received: neither.")
    if len(set(names)) < len(names):
        raise InputError("Expected each model once; name=folder gives another name. Received: a name twice.")
    return models


def _add_labels(models, labels):
    names = [model.name for model in models]
    for label in labels:
        found = _LABEL.fullmatch(label)
        named = found and (found["model"] or (names[0] if len(names) == 1 else None))
        version = found and parse_version(found["version"])
        if named not in names or version is None:
            raise InputError(f"Expected a label as MODEL:LABEL=VERSION, of a served model. Received: {label!r}.")
        place = names.index(named)
        models[place] = replace(models[place], labels={**models[place].labels, found["label"]: version})
    return models
