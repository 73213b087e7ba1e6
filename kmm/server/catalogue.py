"""The models that a server holds, by name and label, kept in step with their folders."""

import contextlib
import logging
import threading

from kmm.server.model import Model
from kmm.server.status import ServingError

logger = logging.getLogger("kmm.server")


class Catalogue:
    """Models by name.

    Example:
        >>> catalogue = Catalogue()
        >>> catalogue.replace([])
        >>> catalogue.list_models()
        {}
    """

    def __init__(self):
        self._models = {}  # replaced as a whole, never changed
        self._labels = None  # model: label: version; None until the first list
        self._replacing = threading.Lock()
        self._stopped = threading.Event()
        self._poller = None
        self._unreadable = set()

    def replace(self, models):
        """Serves these models and no others; what fails leaves everything as it was.

        Args:
            models: list of `ModelSettings`, each name once.

        Raises:
            ServingError: UNKNOWN if a model has no version that can be served; FAILED_PRECONDITION if a label names a
                version that is not served.
        """
        with self._replacing:
            served = {}
            for settings in models:
                model = self._models.get(settings.name)
                same = model is not None and model.settings.folder == settings.folder
                served[settings.name] = model if same else Model(settings)
            try:
                wanted = _load_all(served, models)
                _check_labels(models, wanted)
            except ServingError:
                for name, model in served.items():
                    if self._models.get(name) is not model:
                        model.close()
                raise
            dropped = [model for name, model in self._models.items() if served.get(name) is not model]
            self._models = served
            self._labels = {settings.name: dict(settings.labels) for settings in models}
            for settings in models:
                served[settings.name].settle(settings, wanted[settings.name])
            for model in dropped:
                model.close()

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
        version = self.find_version(spec)
        model = self._models.get(spec.name)
        servable = model and model.take(version)
        if servable is None:
            what = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            raise ServingError("NOT_FOUND", f"Servable not found for request: {what}")
        try:
            yield servable
        finally:
            model.give_back(servable)

    def find_version(self, spec):
        """The version that a request names, by number or label; None where it names none."""
        if not spec.name:
            raise ServingError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        if spec.WhichOneof("version_choice") == "version":
            return spec.version.value
        if not spec.version_label:
            return None
        if self._labels is None:
            raise ServingError("UNAVAILABLE", f"Model labels does not init yet.{spec.version_label}")
        version = self._labels.get(spec.name, {}).get(spec.version_label)
        if version is None:
            raise ServingError("INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}")
        return version

    def list_models(self):
        """The models that are served: dict of name to `Model`."""
        return self._models

    def start_polling(self, seconds):
        """Looks for new versions every so many seconds, in a thread of its own."""
        self._poller = threading.Thread(target=self._poll, args=(seconds,), name="kmm-versions", daemon=True)
        self._poller.start()

    def close(self):
        """Stops looking and unloads all."""
        self._stopped.set()
        if self._poller is not None:
            self._poller.join(1)
        for model in self._models.values():
            model.close()

    def _poll(self, seconds):
        while not self._stopped.wait(seconds):
            with self._replacing:
                for name, model in self._models.items():
                    try:
                        model.refresh()
                        self._unreadable.discard(name)
                    except OSError as error:
                        if name not in self._unreadable:
                            logger.error("model %s: its folder cannot be read: %s", name, error.strerror)
                        self._unreadable.add(name)


def _load_all(served, models):
    """Loads what is wanted of each model: dict of name to the versions, none of them empty."""
    wanted = {}
    for settings in models:
        try:
            wanted[settings.name] = served[settings.name].load(settings)
        except OSError as error:
            logger.error("model %s: its folder cannot be read: %s", settings.name, error.strerror)
    missing = [settings.name for settings in models if not wanted.get(settings.name)]
    if missing:
        raise ServingError("UNKNOWN", f"Some models did not become available: {{{', '.join(missing)}}}")
    return wanted


def _check_labels(models, wanted):
    """Labels may only name versions that are served."""
    for settings in models:
        for version in settings.labels.values():
            if version not in wanted[settings.name]:
                raise ServingError(
                    "FAILED_PRECONDITION",
                    f"Request to assign label to version {version} of model {settings.name}, which is not currently "
                    "available for inference",
                )
