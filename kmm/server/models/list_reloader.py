"""Serve the current list of models whenever its file changes."""

import logging
import math
import time

from kmm.server.model_list import ModelList
from kmm.server.models.catalogue import Catalogue
from kmm.server.settings import ServeSettings
from kmm.server.status import ServingError

logger = logging.getLogger("kmm.server")


class ListReloader:
    """Reloads a list of models when its file changes.

    If a model fails to load, or a label names a version that is not served, the former list stays in use. The new list
    is tried again when it changes, and as often as a version that fails to load.

    Args:
        catalogue: `Catalogue`.
        model_list: `ModelList`; its current models are already served.
        settings: `ServeSettings`.
    """

    def __init__(self, catalogue: Catalogue, model_list: ModelList, settings: ServeSettings) -> None:
        self._catalogue, self._list, self._settings = catalogue, model_list, settings
        self._tries, self._next_try = 0, math.inf
        self._fault: str | None = None

    def look(self, *, at_once: bool = False) -> None:
        """Checks whether the list has changed, and serves it if so.

        Args:
            at_once: bool. As in `WatchedFiles.reload`; a list that failed is tried again now.
        """
        if self._list.reload(at_once=at_once):
            self._tries, self._fault = 0, None
        elif self._fault is None or not (at_once or time.monotonic() >= self._next_try):
            return
        try:
            self._catalogue.replace(self._list.models)
        except ServingError as error:
            if str(error) != self._fault:
                logger.error("models: the former list stays in use: %s", " ".join(str(error).split()))
            self._note_failure(str(error))
            return
        self._tries, self._next_try, self._fault = 0, math.inf, None
        logger.info("models: now serving %s", ", ".join(model.name for model in self._list.models))

    def _note_failure(self, text):
        self._fault, self._tries = text, self._tries + 1
        more = self._tries <= self._settings.max_load_retries
        self._next_try = time.monotonic() + self._settings.delay_retry(self._tries) if more else math.inf
