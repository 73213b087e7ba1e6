"""Keeps a catalogue in step with a list of models that may change."""

import logging
import math
import time

from kmm.server.status import ServingError

logger = logging.getLogger("kmm.server")


class ListReloader:
    """Serves a list of models anew when its file changes.

    A list that cannot be served as a whole, because a model does not load or a label names no served version, leaves
    the former one in force; it is tried again as often as a version that does not load, and when it changes.

    Args:
        catalogue: `Catalogue`.
        model_list: `ModelList`; what it holds now is served already.
        settings: `ServeSettings`.
    """

    def __init__(self, catalogue, model_list, settings):
        self._catalogue, self._list, self._settings = catalogue, model_list, settings
        self._tries, self._again, self._fault = 0, math.inf, None

    def look(self, *, at_once=False):
        """Looks whether the list changed, and serves it if it did.

        Args:
            at_once: bool. As of `WatchedFiles.reload`; and a list that failed is tried now.
        """
        if self._list.reload(at_once=at_once):
            self._tries, self._fault = 0, None
        elif self._fault is None or not (at_once or time.monotonic() >= self._again):
            return
        try:
            self._catalogue.replace(self._list.models)
        except ServingError as error:
            if str(error) != self._fault:
                logger.error("models: the former list stays in force: %s", " ".join(str(error).split()))
            self._note_failure(str(error))
            return
        self._tries, self._again, self._fault = 0, math.inf, None
        logger.info("models: %s are served now", ", ".join(model.name for model in self._list.models))

    def _note_failure(self, text):
        self._fault, self._tries = text, self._tries + 1
        more = self._tries <= self._settings.max_load_retries
        self._again = time.monotonic() + self._settings.delay_retry(self._tries) if more else math.inf
