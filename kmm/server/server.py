"""A server of models: started, announced and stopped."""

import logging

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
from kmm.server.settings import ServeSettings
from kmm.server.status import ServingError
from kmm.server.watching import Watcher

NOTICE = (
    "kmm serve is compatible with TensorFlow Serving's protocol and meant for development and small sites; in "
    "production serve the same folders with TensorFlow Serving. Not for diagnosis."
)
SENDING_SECONDS = 1  # for refusals and the last bytes of answers that are on their way when the server stops
logger = logging.getLogger("kmm.server")


class Server:
    """Serves models over gRPC, and over HTTP where a port is given.

    Args:
        models: list of `ModelSettings`, or a `ModelList`, whose file is followed while the server runs.
        settings: `ServeSettings`. Its files of tokens and of TLS are followed too.

    Attributes:
        port, rest_port: int. The ports that were bound; `rest_port` None without HTTP.

    Raises:
        InputError: if the address cannot be used, or a model has no version that can be served.
    """

    def __init__(self, models, settings=ServeSettings()):  # noqa: B008  frozen
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
        self._rest, self.rest_port = None, None
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
            raise InputError(_tell_missing(models.models, error)) from None
        except BaseException:
            self.stop(0)
            raise

    @property
    def models(self):
        """The models with the versions that answer: dict of name to list of int, highest first."""
        return {name: model.list_available() for name, model in self._catalogue.list_models().items()}

    def start(self):
        """Takes requests from now on, and looks for new versions.

        Raises:
            InputError: if another process took an address meanwhile, or HTTP cannot be spoken.
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

    def reload(self):
        """Looks at all files now: tokens, TLS, the list of models, versions. Returns at once; a handler may call it."""
        for watcher in self._watchers:
            watcher.wake()
        self._catalogue.look_again()

    def list_faults(self):
        """Versions that should be served and could not be loaded: list of str, one line each."""
        return [
            f"{name} version {version}: {state.code}: {' '.join(state.text.split())}"
            for name, model in self._catalogue.list_models().items()
            for version, state in model.list_states().items()
            if state.text
        ]

    def stop(self, grace=None):
        """Takes no more requests, and lets those that run end.

        Args:
            grace: float. Seconds that they may take; None is what the settings say.

        Returns:
            bool. Whether all ended in time.
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

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.stop()


def _make_watchers(tokens, certificates, reloader, settings):
    """What looks at the files that may change; a model that takes long to load delays no change of tokens or TLS."""

    def look(*, at_once):
        tokens.reload(at_once=at_once)
        certificates.reload(at_once=at_once)

    return [
        Watcher("kmm-access", settings.poll_seconds, look),
        Watcher("kmm-models", settings.models_poll_seconds, reloader.look),
    ]


def _tell_missing(models, error):
    """Why models cannot be served, in one line."""
    for model in models:
        if not model.folder.is_dir():
            return f"{model.folder}: expected a folder with versions of a model. Found no folder."
    return f"{str(error).rstrip('.')}."
