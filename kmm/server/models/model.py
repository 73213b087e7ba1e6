"""The versions of one model: loaded, warmed up, swapped and unloaded, without a failed request."""

import gc
import logging
import threading
import time
from dataclasses import dataclass

from kmm.server.memory import trim
from kmm.server.models.graph_errors import translate_load
from kmm.server.models.servable import load_servable
from kmm.server.models.warmup import warm_up
from kmm.server.policy import list_versions
from kmm.server.settings import ServeSettings
from kmm.server.status import ServingError

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


@dataclass(frozen=True)
class _Failure:
    """A version that could not be loaded: its files then, what was said, its tries, when it may be tried again."""

    files: list
    state: VersionState
    tries: int
    again: float


class Model:
    """A model and its versions.

    A version is loaded and warmed up, and serves once it is published. One that cannot be loaded is tried again a few
    times, ever later, and when its files change. What is served is unloaded once another version of the policy serves,
    and its running requests are done: so there is always a version to answer.

    Args:
        settings: `ModelSettings`.
        serving: `ServeSettings`, for warm-up and retries.
    """

    def __init__(self, settings, serving=ServeSettings()):  # noqa: B008  frozen
        self.settings, self._serving = settings, serving
        self._lock = threading.Lock()  # of the mappings below
        self._refreshing = threading.Lock()
        self._available = {}  # version: Servable
        self._loaded = {}  # version: Servable that is not published yet
        self._users = {}  # id of a servable: how many requests hold it
        self._states = {}  # version: VersionState
        self._bad = {}  # version: _Failure
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
        """Loads the versions that a policy wants and that are not served yet; none is published or unloaded.

        Args:
            settings: `ModelSettings` with this model's name and folder.

        Returns:
            list of int, the wanted versions, all of them served or loaded; highest first.

        Raises:
            OSError: if the folder cannot be read.
        """
        with self._refreshing:
            found = list_versions(settings.folder)
            good = {version for version in found if not self._is_bad(version, found)}
            while True:
                wanted = settings.policy.choose(good, settings.labels.values())
                fresh = [version for version in wanted if version not in self._available | self._loaded]
                if not fresh:
                    return wanted
                good -= {version for version in fresh if not self._load(version, found[version])}  # each tried once

    def publish(self):
        """Lets the versions serve that `load` loaded."""
        with self._lock:
            for version in self._loaded:
                self._states[version] = VersionState(AVAILABLE)
                logger.info("model %s version %d is served", self.settings.name, version)
            self._available |= self._loaded
            self._loaded = {}

    def discard(self):
        """Drops the versions that `load` loaded, as if they had never been seen."""
        with self._lock:
            for version in self._loaded:
                del self._states[version]
            self._garbage |= bool(self._loaded)
            self._loaded = {}
        self.collect()

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
        wanted = self.load(self.settings)
        self.publish()
        self.settle(self.settings, wanted)

    def close(self):
        """Unloads all versions, each once its requests are done."""
        self._retire(self.list_available())
        self.collect()

    def _load(self, version, folder):
        """Loads a version, or notes why it cannot be; returns whether it is loaded."""
        name = self.settings.name
        files = _list_files(folder)
        self._set_state(version, VersionState(LOADING))
        try:
            servable = load_servable(name, version, folder)
            if self._serving.warmup:
                warm_up(servable, folder, explain=self._serving.explain_at_start)
            trim()
        except Exception as error:  # noqa: BLE001  a version that fails is set aside, however it fails
            self._set_aside(version, files, error if isinstance(error, ServingError) else translate_load(error))
            return False
        self._bad.pop(version, None)
        self._loaded[version] = servable
        return True

    def _set_aside(self, version, files, error):
        """Notes why a version cannot be loaded, and says it, unless it was said."""
        former, state = self._bad.get(version), VersionState(END, error.code, str(error))
        tries = former.tries + 1 if former and former.files == files else 1
        self._bad[version] = _Failure(files, state, tries, time.monotonic() + self._serving.delay_retry(tries))
        self._set_state(version, state)
        if tries == 1 or former.state != state:
            logger.error("model %s version %d cannot be served: %s: %s", self.settings.name, version, error.code, error)

    def _is_bad(self, version, found):
        """Whether a version failed with these files and is not to be tried again, or not yet."""
        failure = self._bad.get(version)
        return (
            failure is not None
            and (failure.tries > self._serving.max_load_retries or time.monotonic() < failure.again)
            and failure.files == _list_files(found[version])
        )

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
