"""The models that a server holds, by name and label, kept in step with their folders."""

import contextlib
import logging
import threading

from kmm.protocol.messages import DEFAULT_MODEL
from kmm.server.models.model import Model
from kmm.server.policy import list_versions
from kmm.server.settings import ServeSettings
from kmm.server.status import ServingError, refuse
from kmm.server.watching import Watcher
from kmm.tracebacks import describe_error

logger = logging.getLogger("kmm.server")


class Catalogue:
    """Models by name; a single one is found by TensorFlow Serving's default name too.

    Args:
        settings: `ServeSettings`, for how versions are loaded.

    Example:
        >>> catalogue = Catalogue()
        >>> catalogue.replace([])
        >>> catalogue.list_models()
        {}
    """

    def __init__(self, settings=ServeSettings()):  # noqa: B008  frozen
        self._settings = settings
        # Models by name, and the labels of each with their versions, None until the first list. Both are replaced in
        # one step and never changed: who reads them once sees what belongs together.
        self._state = ({}, None)
        self._dropped = []  # models that no list names and requests may still hold
        self._replacing = threading.Lock()
        self._watcher = None
        self._unreadable = set()

    def replace(self, models):
        """Serves these models and no others; until all of them are loaded and checked, nothing changes.

        Args:
            models: list of `ModelSettings`, each name once.

        Raises:
            ServingError: UNKNOWN if a model has no version that can be served; FAILED_PRECONDITION if a label names a
                version that is not served.
        """
        with self._replacing:
            served, former = {}, self.list_models()
            for settings in models:
                model = former.get(settings.name)
                same = model is not None and model.settings.folder == settings.folder
                served[settings.name] = model if same else Model(settings, self._settings)
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
    def lease(self, spec):
        """Holds the version that a request names, so that it is not unloaded under it.

        Args:
            spec: `ModelSpec`.

        Yields:
            `Servable`.

        Raises:
            ServingError: INVALID_ARGUMENT if no model is named or the label is not known; NOT_FOUND if it is not
                served; UNAVAILABLE before the first list of models.
        """
        servable = None
        while servable is None:
            state = self._state
            model, version = _find(spec, *state)
            servable = model and model.take(version)
            if servable is None and self._state is state:  # else another list came between: it may have it
                what = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
                raise ServingError("NOT_FOUND", f"Servable not found for request: {what}")
        try:
            yield servable
        finally:
            model.give_back(servable)

    def find(self, spec):
        """What a request names: (`Model`, or None if it is not served; the version, or None where it names none).

        Raises:
            ServingError: as `lease`, but for NOT_FOUND.
        """
        return _find(spec, *self._state)

    def find_name(self, name):
        """The name of the model that a request's name finds, or "" if it is not served."""
        models = self.list_models()
        name = _find_name(name, models)
        return name if name in models else ""

    def list_models(self):
        """The models that are served: dict of name to `Model`."""
        return self._state[0]

    def start_polling(self, seconds):
        """Looks for new versions every so many seconds, in a thread of its own; 0 is only when `look_again` says so."""
        self._watcher = Watcher("kmm-versions", seconds, self._look)
        self._watcher.start()

    def look_again(self):
        """Looks for new versions now, in that thread."""
        self._watcher.wake()

    def close(self):
        """Stops looking and unloads all."""
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
                except Exception as error:  # noqa: BLE001  the other models are looked at too
                    if name not in self._unreadable:
                        logger.error("model %s: %s", name, _tell_poll(error))
                    self._unreadable.add(name)
            self._dropped = [model for model in self._dropped if not model.collect()]


def _find(spec, models, labels):
    """The model and version that a request names, of one state."""
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
    """A request's name, or that of the only model where it is TensorFlow Serving's default."""
    return next(iter(models)) if name == DEFAULT_MODEL and name not in models and len(models) == 1 else name


def _tell_poll(error):
    """Why looking for new versions failed."""
    if isinstance(error, OSError):
        return f"its folder cannot be read: {error.strerror}"
    return f"looking for new versions failed: {describe_error(error)}"


def _load_all(served, models):
    """Loads what is wanted of each model: dict of name to the versions, none of them empty."""
    wanted = {}
    for settings in models:
        with contextlib.suppress(OSError):  # of its folder: told below
            wanted[settings.name] = served[settings.name].load(settings)
    missing = [settings for settings in models if not wanted.get(settings.name)]
    if missing:
        names = ", ".join(settings.name for settings in missing)
        reasons = [f"{settings.name}: {_tell_missing(served[settings.name], settings)}" for settings in missing]
        raise ServingError("UNKNOWN", f"Some models did not become available: {{{names}}}. {'; '.join(reasons)}")
    return wanted


def _tell_missing(model, settings):
    """Why no version of a model can be served, in one line."""
    failed = _tell_states(model)
    try:
        found = list_versions(settings.folder)
    except OSError as error:
        return f"its folder cannot be read: {error.strerror}"
    if not found:
        return "its folder holds no version, a folder named by a number, as `kmm export` writes them"
    return failed or f"of its versions {', '.join(map(str, found))} none is to be served"


def _tell_states(model, versions=None):
    """What is known of the versions that cannot be loaded, of all or of some."""
    return "; ".join(
        f"version {version}: {' '.join(state.text.split())}"
        for version, state in model.list_states().items()
        if state.text and (versions is None or version in versions)
    )


def _check_labels(models, wanted, served):
    """Labels may only name versions that are served."""
    for settings in models:
        for version in settings.labels.values():
            if version not in wanted[settings.name]:
                why = _tell_states(served[settings.name], [version])
                raise ServingError(
                    "FAILED_PRECONDITION",
                    f"Request to assign label to version {version} of model {settings.name}, which is not currently "
                    f"available for inference{why and f'. {why}'}",
                )
