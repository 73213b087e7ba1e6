"""Find models by name and label, and follow changes in their folders."""

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kmm.errors import describe_error
from kmm.protocol.messages import DEFAULT_MODEL
from kmm.server.models.model import Model
from kmm.server.models.servable import Servable
from kmm.server.policy import list_versions
from kmm.server.settings import ModelSettings, ServeSettings
from kmm.server.status import ServingError, refuse
from kmm.server.watching import Watcher

if TYPE_CHECKING:
    from tensorflow_serving.apis import model_pb2

logger = logging.getLogger("kmm.server")


class Catalogue:
    """Served models by name. A single model is also found under TensorFlow Serving's default name.

    Args:
        settings: `ServeSettings`, for loading versions.

    Example:
        >>> catalogue = Catalogue()
        >>> catalogue.replace([])
        >>> catalogue.list_models()
        {}
    """

    def __init__(self, settings: ServeSettings = ServeSettings()) -> None:  # noqa: B008  frozen
        self._settings = settings
        # Models by name, and the versions of each model's labels (None before the first list). The pair is replaced in
        # one step and never changed, so whoever reads it once gets models and labels that belong together.
        self._state: tuple[dict[str, Model], dict[str, dict[str, int]] | None] = ({}, None)
        self._dropped: list[Model] = []  # models that left the list, but may still be held by requests
        self._replacing = threading.Lock()
        self._watcher: Watcher | None = None
        self._unreadable: set[str] = set()

    def replace(self, models: Iterable[ModelSettings]) -> None:
        """Serves these models and no others. Nothing changes until all of them are loaded and checked.

        Args:
            models: list of `ModelSettings` with distinct names.

        Raises:
            ServingError: UNKNOWN if a model has no version that can be served; FAILED_PRECONDITION if a label names a
                version that is not served.
        """
        models = list(models)
        with self._replacing:
            served: dict[str, Model] = {}
            former = self.list_models()
            for settings in models:
                model = former.get(settings.name)
                if model is None or model.settings.folder != settings.folder:
                    model = Model(settings, self._settings)
                served[settings.name] = model
            try:
                wanted = _load_all(served, models)
                _check_labels(models, wanted, served)
            except BaseException:
                for model in served.values():
                    model.discard()
                raise
            for model in served.values():
                model.publish()
            self._state = (served, {settings.name: dict(settings.labels) for settings in models})
            for settings in models:
                served[settings.name].settle(settings, wanted[settings.name])
            dropped = [model for name, model in former.items() if served.get(name) is not model]
            for model in dropped:
                model.close()
            self._dropped += dropped

    @contextlib.contextmanager
    def lease(self, spec: "model_pb2.ModelSpec") -> Iterator[Servable]:
        """Holds the version that a request names, so that it is not unloaded while the request runs.

        Args:
            spec: `ModelSpec`.

        Yields:
            `Servable`.

        Raises:
            ServingError: INVALID_ARGUMENT if no model is named or the label is unknown; NOT_FOUND if the model or the
                version is not served; UNAVAILABLE if a label is named before the first list of models.
        """
        while True:
            state = self._state
            model, version = _find(spec, *state)
            servable = None if model is None else model.take(version)
            if model is not None and servable is not None:
                break
            if self._state is state:  # otherwise the list has changed meanwhile, and may name this version
                request = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
                raise ServingError("NOT_FOUND", f"Servable not found for request: {request}")
        try:
            yield servable
        finally:
            model.give_back(servable)

    def find(self, spec: "model_pb2.ModelSpec") -> tuple[Model | None, int | None]:
        """Finds the model and the version that a request names.

        Returns:
            (`Model`, or None if it is not served; the version, or None if the request names none).

        Raises:
            ServingError: as for `lease`, except NOT_FOUND.
        """
        return _find(spec, *self._state)

    def find_name(self, name: str) -> str:
        """Returns the name of the model that a request means, or "" if it is not served."""
        models = self.list_models()
        name = _find_name(name, models)
        return name if name in models else ""

    def list_models(self) -> dict[str, Model]:
        """Returns the served models by name."""
        return self._state[0]

    def start_polling(self, seconds: float) -> None:
        """Starts a thread that looks for new versions.

        Args:
            seconds: float. Time between two looks; 0 looks only when `look_again` is called.
        """
        self._watcher = Watcher("kmm-versions", seconds, self._look)
        self._watcher.start()

    def look_again(self) -> None:
        """Has the polling thread look for new versions now."""
        if self._watcher is not None:
            self._watcher.wake()

    def close(self) -> None:
        """Stops polling and unloads all models."""
        if self._watcher is not None:
            self._watcher.close()
        for model in self.list_models().values():
            model.close()

    def _look(self, *, at_once):
        with self._replacing:
            for name, model in self.list_models().items():
                try:
                    model.refresh()
                    self._unreadable.discard(name)
                except Exception as error:  # noqa: BLE001  the other models must be refreshed too
                    if name not in self._unreadable:
                        logger.error("model %s: %s", name, _explain_poll(error))
                    self._unreadable.add(name)
            self._dropped = [model for model in self._dropped if not model.collect()]


def _find(spec, models, labels):
    """Finds the model and version that a request names, in one state of the catalogue."""
    if not spec.name:
        raise refuse("ModelSpec has no name specified.")
    name = _find_name(spec.name, models)
    version = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
    if spec.version_label:
        if labels is None:
            raise ServingError("UNAVAILABLE", f"Model labels does not init yet.{spec.version_label}")
        version = labels.get(name, {}).get(spec.version_label)
        if version is None:
            raise refuse(f"Unrecognized servable version label: {spec.version_label}")
    return models.get(name), version


def _find_name(name, models):
    """Returns the name of the only model for TensorFlow Serving's default name; otherwise the name in the request."""
    return next(iter(models)) if name == DEFAULT_MODEL and name not in models and len(models) == 1 else name


def _explain_poll(error):
    """Explains why looking for new versions failed."""
    if isinstance(error, OSError):
        return f"its folder cannot be read: {error.strerror}"
    return f"looking for new versions failed: {describe_error(error)}"


def _load_all(served, models):
    """Loads the wanted versions of each model: dict of name to a list of versions, which is never empty."""
    wanted = {}
    for settings in models:
        with contextlib.suppress(OSError):  # `_explain_missing` reports an unreadable folder
            wanted[settings.name] = served[settings.name].load(settings)
    missing = [settings for settings in models if not wanted.get(settings.name)]
    if missing:
        names = ", ".join(settings.name for settings in missing)
        reasons = [f"{settings.name}: {_explain_missing(served[settings.name], settings)}" for settings in missing]
        raise ServingError("UNKNOWN", f"Some models did not become available: {{{names}}}. {'; '.join(reasons)}")
    return wanted


def _explain_missing(model, settings):
    """Explains in one line why no version of a model can be served."""
    failed = _explain_states(model)
    try:
        found = list_versions(settings.folder)
    except OSError as error:
        return f"its folder cannot be read: {error.strerror}"
    if not found:
        return "its folder has no version (a subfolder named by a number, as `kmm export` writes)"
    return failed or f"the policy selects none of its versions {', '.join(map(str, found))}"


def _explain_states(model, versions=None):
    """Explains why versions cannot be loaded, of all versions or only the given ones."""
    return "; ".join(
        f"version {version}: {' '.join(state.text.split())}"
        for version, state in model.list_states().items()
        if state.text and (versions is None or version in versions)
    )


def _check_labels(models, wanted, served):
    """Checks that labels name only versions that are served."""
    for settings in models:
        for version in settings.labels.values():
            if version not in wanted[settings.name]:
                reason = _explain_states(served[settings.name], [version])
                raise ServingError(
                    "FAILED_PRECONDITION",
                    f"Request to assign label to version {version} of model {settings.name}, which is not currently "
                    f"available for inference{reason and f'. {reason}'}",
                )
