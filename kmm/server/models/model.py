"""Load, warm up, swap and unload the versions of one model without a failed request."""

import gc
import logging
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass

from kmm.server.memory import trim
from kmm.server.models.graph_errors import translate_load
from kmm.server.models.servable import Servable, load_servable
from kmm.server.models.warmup import warm_up
from kmm.server.policy import list_versions
from kmm.server.settings import ModelSettings, ServeSettings
from kmm.server.status import ServingError

START, LOADING, AVAILABLE, UNLOADING, END = "START", "LOADING", "AVAILABLE", "UNLOADING", "END"
logger = logging.getLogger("kmm.server")


@dataclass(frozen=True)
class VersionState:
    """The state of a version.

    Attributes:
        state: `"START"`, `"LOADING"`, `"AVAILABLE"`, `"UNLOADING"` or `"END"`.
        code, text: str. Status code and text of the error that ended it; `"OK"` and `""` without an error.
    """

    state: str
    code: str = "OK"
    text: str = ""


@dataclass(frozen=True)
class _Failure:
    """A version that failed to load: its files, its state, the number of tries, and the time of the next try."""

    files: list[tuple[str, int, int]]
    state: VersionState
    tries: int
    next_try: float


class Model:
    """A model and its versions.

    A version is loaded and warmed up, and serves when it is published. A version that fails to load is tried again a
    few times, at growing intervals, and whenever its files change. A served version is unloaded when another version of
    the policy serves and its own requests are done, so a version to answer is always available.

    Args:
        settings: `ModelSettings`.
        serving: `ServeSettings`, for warm-up and retries.
    """

    def __init__(self, settings: ModelSettings, serving: ServeSettings = ServeSettings()) -> None:  # noqa: B008  frozen
        self.settings, self._serving = settings, serving
        self._lock = threading.Lock()  # for the mappings below
        self._refreshing = threading.Lock()
        self._available: dict[int, Servable] = {}
        self._loaded: dict[int, Servable] = {}  # not published yet
        self._users: dict[int, int] = {}  # id of a servable: number of requests that hold it
        self._states: dict[int, VersionState] = {}
        self._failures: dict[int, _Failure] = {}
        self._garbage = False

    def take(self, version: int | None = None) -> Servable | None:
        """Takes an available version for a request; return it with `give_back`.

        Args:
            version: int; None takes the highest.

        Returns:
            `Servable`, or None if the version is not served.
        """
        with self._lock:
            if version is None:
                version = max(self._available, default=-1)
            servable = self._available.get(version)
            if servable is not None:
                self._users[id(servable)] = self._users.get(id(servable), 0) + 1
            return servable

    def give_back(self, servable: Servable) -> None:
        """Returns a version after a request."""
        with self._lock:
            self._users[id(servable)] -= 1
            self._finish(servable)

    def list_states(self) -> dict[int, VersionState]:
        """Lists the states of the known versions, highest first."""
        with self._lock:
            return dict(sorted(self._states.items(), reverse=True))

    def list_available(self) -> list[int]:
        """Lists the available versions, highest first."""
        with self._lock:
            return sorted(self._available, reverse=True)

    def load(self, settings: ModelSettings) -> list[int]:
        """Loads the versions that a policy selects and that are not loaded yet. Publishes and unloads none.

        Args:
            settings: `ModelSettings` with the name and folder of this model.

        Returns:
            list of int, the selected versions, highest first; all of them are served or loaded.

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
                good -= {version for version in fresh if not self._load(version, found[version])}  # one try per version

    def publish(self) -> None:
        """Makes the versions that `load` loaded available."""
        with self._lock:
            for version in self._loaded:
                self._states[version] = VersionState(AVAILABLE)
                logger.info("model %s version %d is served", self.settings.name, version)
            self._available |= self._loaded
            self._loaded = {}

    def discard(self) -> None:
        """Drops the versions that `load` loaded, with their states."""
        with self._lock:
            for version in self._loaded:
                del self._states[version]
            self._garbage |= bool(self._loaded)
            self._loaded = {}
        self.collect()

    def settle(self, settings: ModelSettings, wanted: Collection[int]) -> None:
        """Takes all other versions out of service; if `wanted` is empty, all served versions stay."""
        self.settings = settings
        if wanted:
            self._retire([version for version in self.list_available() if version not in wanted])
        self.collect()

    def collect(self) -> bool:
        """Frees the memory of unloaded versions.

        Returns:
            bool. Whether no request holds a version of this model.
        """
        idle = not self._users
        if self._garbage:  # graphs contain reference cycles
            self._garbage = False
            gc.collect()
        return idle

    def refresh(self) -> None:
        """Loads new versions in the folder and unloads those that the policy no longer selects.

        Raises:
            OSError: if the folder cannot be read; the served versions stay.
        """
        wanted = self.load(self.settings)
        self.publish()
        self.settle(self.settings, wanted)

    def close(self) -> None:
        """Unloads all versions, each when its requests are done."""
        self._retire(self.list_available())
        self.collect()

    def _load(self, version, folder):
        """Loads a version, or notes why it failed; returns whether it is loaded."""
        name = self.settings.name
        files = _list_files(folder)
        self._set_state(version, VersionState(LOADING))
        try:
            servable = load_servable(name, version, folder)
            if self._serving.warmup:
                warm_up(servable, folder, explain=self._serving.explain_at_start)
            trim()
        except Exception as error:  # noqa: BLE001  a version that fails for any reason is set aside
            self._set_aside(version, files, error if isinstance(error, ServingError) else translate_load(error))
            return False
        self._failures.pop(version, None)
        self._loaded[version] = servable
        return True

    def _set_aside(self, version, files, error):
        """Notes why a version failed to load, and logs it unless the same error was logged before."""
        former, state = self._failures.get(version), VersionState(END, error.code, str(error))
        tries = former.tries + 1 if former and former.files == files else 1
        self._failures[version] = _Failure(files, state, tries, time.monotonic() + self._serving.delay_retry(tries))
        self._set_state(version, state)
        if tries == 1 or former.state != state:
            logger.error("model %s version %d cannot be served: %s: %s", self.settings.name, version, error.code, error)

    def _is_bad(self, version, found):
        """Returns whether a version failed with its current files and should not be tried now."""
        failure = self._failures.get(version)
        return (
            failure is not None
            and (failure.tries > self._serving.max_load_retries or time.monotonic() < failure.next_try)
            and failure.files == _list_files(found[version])
        )

    def _retire(self, versions):
        """Takes versions out of service; each is unloaded after its last request."""
        with self._lock:
            for version in [version for version in versions if version in self._available]:
                self._states[version] = VersionState(UNLOADING)
                self._finish(self._available.pop(version))

    def _finish(self, servable):
        """Unloads a version that is out of service, if no request holds it."""
        if self._users.get(id(servable), 0) or self._available.get(servable.version) is servable:
            return
        self._users.pop(id(servable), None)
        if servable.version not in self._available:  # otherwise the same version was loaded again meanwhile
            self._states[servable.version] = VersionState(END)
        self._garbage = True
        logger.info("model %s version %d is unloaded", servable.name, servable.version)

    def _set_state(self, version, state):
        with self._lock:
            self._states[version] = state


def _list_files(folder):
    """Lists path, size and modification time of each file of a version; after a change it may be tried again."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return found
