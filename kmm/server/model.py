"""The versions of one model: loaded, warmed up, swapped and unloaded, without a failed request."""

import gc
import logging
import threading
from dataclasses import dataclass

from kmm.server.graph_errors import translate_load
from kmm.server.policy import list_versions
from kmm.server.servable import load_servable
from kmm.server.status import ServingError
from kmm.server.warmup import warm_up

START, LOADING, AVAILABLE, UNLOADING, END = "START", "LOADING", "AVAILABLE", "UNLOADING", "END"
logger = logging.getLogger("kmm.server")


@dataclass(frozen=True)
class VersionState:
    """Where a version stands.

    Attributes:
        state: `"START"`, `"LOADING"`, `"AVAILABLE"`, `"UNLOADING"` or `"END"`.
        code, text: str. Why it ended; `"OK"` and nothing otherwise.
    """

    state: str
    code: str = "OK"
    text: str = ""


class Model:
    """A model and its versions.

    A version is served from the moment when it is loaded and warmed up. One that cannot be loaded is set aside until
    its files change. What is served is unloaded once another version of the policy is, and its running requests are
    done: so there is always a version to answer.

    Args:
        settings: `ModelSettings`.
    """

    def __init__(self, settings):
        self.settings = settings
        self._lock = threading.Lock()  # of the mappings below
        self._refreshing = threading.Lock()
        self._available = {}  # version: Servable
        self._users = {}  # id of a servable: how many requests hold it
        self._states = {}  # version: VersionState
        self._bad = {}  # version: what its files were when it could not be loaded
        self._garbage = False

    def take(self, version=None):
        """A loaded version, the highest where none is named; give it back with `give_back`.

        Returns:
            `Servable`, or None if the version is not served.
        """
        with self._lock:
            if version is None:
                version = max(self._available, default=None)
            servable = self._available.get(version)
            if servable is not None:
                self._users[id(servable)] = self._users.get(id(servable), 0) + 1
            return servable

    def give_back(self, servable):
        """Says that a request is done with a version."""
        with self._lock:
            self._users[id(servable)] -= 1
            self._finish(servable)

    def list_states(self):
        """The known versions, highest first: dict of version to `VersionState`."""
        with self._lock:
            return dict(sorted(self._states.items(), reverse=True))

    def list_available(self):
        """The versions that answer, highest first."""
        with self._lock:
            return sorted(self._available, reverse=True)

    def load(self, settings):
        """Loads the versions that a policy wants and that are not served yet; none is unloaded.

        Args:
            settings: `ModelSettings` with this model's name and folder.

        Returns:
            list of int, the wanted versions, all of them served; highest first.

        Raises:
            OSError: if the folder cannot be read.
        """
        with self._refreshing:
            found = list_versions(settings.folder)
            good = {version for version in found if not self._is_bad(version, found)}
            while True:
                wanted = settings.policy.choose(good)
                fresh = [version for version in wanted if version not in self._available]
                if not fresh:
                    return wanted
                good -= {version for version in fresh if not self._load(version, found[version])}  # each tried once

    def settle(self, settings, wanted):
        """Serves only these versions from now on; where there is none, what is served stays."""
        self.settings = settings
        if wanted:
            self._retire([version for version in self.list_available() if version not in wanted])
        self.collect()

    def collect(self):
        """Frees what versions that ended held; says whether no request holds a version any more."""
        idle = not self._users
        if self._garbage:  # graphs hold themselves in circles
            self._garbage = False
            gc.collect()
        return idle

    def refresh(self):
        """Brings what is served in step with the folder.

        Raises:
            OSError: if the folder cannot be read; what is served stays.
        """
        self.settle(self.settings, self.load(self.settings))

    def close(self):
        """Unloads all versions, each once its requests are done."""
        self._retire(self.list_available())
        self.collect()

    def _load(self, version, folder):
        """Loads a version and lets it serve, or notes why it cannot; returns whether it serves."""
        name = self.settings.name
        files = _list_files(folder)
        self._set_state(version, VersionState(LOADING))
        try:
            servable = load_servable(name, version, folder)
            warm_up(servable, folder)
        except Exception as error:  # noqa: BLE001  a version that fails is set aside, however it fails
            error = error if isinstance(error, ServingError) else translate_load(error)
            self._bad[version] = files
            self._set_state(version, VersionState(END, error.code, str(error)))
            logger.error("model %s version %d cannot be served: %s: %s", name, version, error.code, error)
            return False
        with self._lock:
            self._available[version] = servable
            self._states[version] = VersionState(AVAILABLE)
        logger.info("model %s version %d is served", name, version)
        return True

    def _is_bad(self, version, found):
        return version in self._bad and self._bad[version] == _list_files(found[version])

    def _retire(self, versions):
        """Takes versions out of service; the last request of each ends it."""
        with self._lock:
            for version in [version for version in versions if version in self._available]:
                self._states[version] = VersionState(UNLOADING)
                self._finish(self._available.pop(version))

    def _finish(self, servable):
        """Ends a version that is out of service, once nobody holds it."""
        if self._users.get(id(servable), 0) or self._available.get(servable.version) is servable:
            return
        self._users.pop(id(servable), None)
        if servable.version not in self._available:  # not loaded anew meanwhile
            self._states[servable.version] = VersionState(END)
        self._garbage = True
        logger.info("model %s version %d is unloaded", servable.name, servable.version)

    def _set_state(self, version, state):
        with self._lock:
            self._states[version] = state


def _list_files(folder):
    """What the files of a version are now: a change means that it may be tried again."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return found
