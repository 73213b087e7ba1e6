"""List the models to serve, from the command line and from a file that may change."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kmm.errors import InputError
from kmm.server.policy import parse_version
from kmm.server.settings import ModelSettings, parse_models
from kmm.server.watching import WatchedFiles

_LABEL = re.compile(r"(?:(?P<model>[^:=]+):)?(?P<label>[^:=/\s]+)=(?P<version>[0-9]+)")


class ModelList:
    """A list of models. A change of the file affects only the models and labels that came from it.

    Args:
        models: list of `ModelSettings`.
        file: path of a `ModelServerConfig` in text format with more models, or None.
        labels: list of str, `MODEL:LABEL=VERSION`, or `LABEL=VERSION` for a single model. They override labels in the
            file.

    Raises:
        InputError: if there is no model, two models have the same name, the file cannot be read or parsed, or a label
            has another form or names another model.

    Example:
        >>> from kmm.server.settings import parse_model
        >>> ModelList([parse_model("film=saved_models/film")], labels=["stable=3"]).models[0].labels
        {'stable': 3}
    """

    def __init__(
        self, models: Sequence[ModelSettings] = (), file: Path | str | None = None, labels: Sequence[str] = ()
    ) -> None:
        def parse(*contents):
            read = [model for content in contents for model in parse_models(content, file)]
            return _add_labels(_check_names([*models, *read]), labels)

        self._watched = WatchedFiles("models", [(file, "a list of models")] if file else [], parse)

    @property
    def models(self) -> list[ModelSettings]:
        """list of `ModelSettings`: the current models."""
        return self._watched.value

    def reload(self, *, at_once: bool = False) -> bool:
        """Reads the file again, see `WatchedFiles.reload`."""
        return self._watched.reload(at_once=at_once)


def _check_names(models):
    names = [model.name for model in models]
    if not models:
        raise InputError("Expected a folder of a model, or --models FILE. Received: neither.")
    if len(set(names)) < len(names):
        raise InputError("Two models have the same name. Rename one of them with name=folder.")
    return models


def _add_labels(models, labels):
    names = [model.name for model in models]
    for label in labels:
        found = _LABEL.fullmatch(label)
        named = found and (found["model"] or (names[0] if len(names) == 1 else None))
        version = found and parse_version(found["version"])
        if named not in names or version is None:
            raise InputError(f"Expected a label as MODEL:LABEL=VERSION, of a served model. Received: {label!r}.")
        index = names.index(named)
        models[index] = replace(models[index], labels={**models[index].labels, found["label"]: version})
    return models
