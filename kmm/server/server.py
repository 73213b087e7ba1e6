"""Start and stop a server of models."""

import logging
from collections.abc import Sequence
from typing import Self

from kmm.errors import InputError
from kmm.server.access import Certificates, Tokens, check_address
from kmm.server.connections import Connections, count_connections, count_free_files
from kmm.server.grpc import relay
from kmm.server.grpc.server import GrpcServer
from kmm.server.model_list import ModelList
from kmm.server.models.catalogue import Catalogue
from kmm.server.models.list_reloader import ListReloader
from kmm.server.requests.inference import Inference
from kmm.server.rest.http_server import RestServer
from kmm.server.settings import ModelSettings, ServeSettings
from kmm.server.status import ServingError
from kmm.server.watching import Watcher

NOTICE = (
    "kmm serve is compatible with TensorFlow Serving's protocol and meant for development and small sites; in "
    "production serve the same folders with TensorFlow Serving. Not for diagnosis."
)
SENDING_SECONDS = 1  # time for refusals and the last bytes of answers when the server stops
logger = logging.getLogger("kmm.server")


class Server:
    """Serves models over gRPC, and over HTTP if a port for it is set.

    Args:
        models: list of `ModelSettings`, or a `ModelList`, whose file is watched while the server runs.
        settings: `ServeSettings`. Its token and TLS files are watched too.

    Attributes:
        port, rest_port: int. The bound ports; `rest_port` is None without HTTP.

    Raises:
        InputError: if an address cannot be used, or a model has no version that can be served.
    """

    def __init__(
        self,
        models: Sequence[ModelSettings] | ModelList,
        settings: ServeSettings = ServeSettings(),  # noqa: B008  frozen
    ) -> None:
        models = models if isinstance(models, ModelList) else ModelList(models)
        tokens, certificates = Tokens(settings.token_file), Certificates(settings)
        check_address(settings, certificates)
        self._settings, self._serving = settings, False
        self._catalogue = Catalogue(settings)
        self._inference = Inference(self._catalogue, settings)
        self._watchers = _make_watchers(tokens, certificates, ListReloader(self._catalogue, models, settings), settings)
        files_each = [relay.FILES_EACH] if settings.rest_port is None else [relay.FILES_EACH, 1]
        most = count_connections(settings.max_connections, files_each, count_free_files())
        share = settings.max_connections_per_address
        self._grpc = GrpcServer(
            self._inference,
            Connections(most, share, noun="gRPC connections"),
            check_token=tokens.check,
            credentials=certificates.make_grpc_credentials(),
        )
        self.port = self._grpc.port
        self._rest: RestServer | None = None
        self.rest_port: int | None = None
        try:
            if settings.rest_port is not None:
                self._rest = RestServer(
                    self._inference,
                    Connections(most, share, noun="HTTP connections"),
                    lambda: self._serving,
                    check_token=tokens.check,
                    ssl_context=certificates.make_ssl_context(),
                )
                self.rest_port = self._rest.port
            self._catalogue.replace(models.models)
        except ServingError as error:
            self.stop(0)
            raise InputError(_explain_failure(models.models, error)) from None
        except BaseException:
            self.stop(0)
            raise

    @property
    def models(self) -> dict[str, list[int]]:
        """dict of the name of each model to its available versions, highest first."""
        return {name: model.list_available() for name, model in self._catalogue.list_models().items()}

    def start(self) -> None:
        """Starts accepting requests and watching for new versions.

        Raises:
            InputError: if another process has started to listen on an address, or the HTTP server fails to start.
        """
        try:
            self._grpc.start()
            if self._rest is not None:
                self._rest.start()
        except BaseException:
            self.stop(0)
            raise
        self._catalogue.start_polling(self._settings.poll_seconds)
        for watcher in self._watchers:
            watcher.start()
        self._serving = True
        self._grpc.set_serving(True)

    def reload(self) -> None:
        """Checks tokens, TLS, the list of models and versions for changes now.

        It returns immediately and may be called from a signal handler.
        """
        for watcher in self._watchers:
            watcher.wake()
        self._catalogue.look_again()

    def list_faults(self) -> list[str]:
        """Lists the versions that failed to load: one line per version."""
        return [
            f"{name} version {version}: {state.code}: {' '.join(state.text.split())}"
            for name, model in self._catalogue.list_models().items()
            for version, state in model.list_states().items()
            if state.text
        ]

    def stop(self, grace: float | None = None) -> bool:
        """Stops accepting requests, and waits for running requests to end.

        Args:
            grace: float. Time limit for running requests in seconds; None is `grace_seconds` of the settings.

        Returns:
            bool. Whether all requests ended in time.
        """
        self._serving = False
        self._grpc.set_serving(False)
        ended = self._inference.drain(self._settings.grace_seconds if grace is None else grace)
        if self._rest is not None:
            self._rest.begin_stop(SENDING_SECONDS)
        self._grpc.stop(SENDING_SECONDS if ended else 0)
        if self._rest is not None:
            self._rest.end_stop()
        for watcher in self._watchers:
            watcher.close()
        self._catalogue.close()
        return ended

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _make_watchers(tokens, certificates, reloader, settings):
    """Returns the watchers: one for tokens and TLS, one for models, so that a slow load does not delay the former."""

    def look(*, at_once):
        tokens.reload(at_once=at_once)
        certificates.reload(at_once=at_once)

    return [
        Watcher("kmm-access", settings.poll_seconds, look),
        Watcher("kmm-models", settings.models_poll_seconds, reloader.look),
    ]


def _explain_failure(models, error):
    """Returns the reason why models cannot be served, in one line."""
    for model in models:
        if not model.folder.is_dir():
            return f"{model.folder}: expected a folder with versions of a model. Found no folder."
    return f"{str(error).rstrip('.')}."
