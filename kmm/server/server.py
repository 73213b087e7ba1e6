"""A server of models: started, announced and stopped."""

import logging

from kmm.errors import InputError
from kmm.server import grpc_services
from kmm.server.access import check_address, check_token
from kmm.server.connections import Connections, count_connections, count_free_files
from kmm.server.models.catalogue import Catalogue
from kmm.server.requests.inference import Inference
from kmm.server.rest.http_server import RestServer
from kmm.server.settings import ServeSettings
from kmm.server.status import ServingError

NOTICE = (
    "kmm serve is compatible with TensorFlow Serving's protocol and meant for development and small sites; in "
    "production serve the same folders with TensorFlow Serving. Not for diagnosis."
)
MOST_CONNECTIONS, FILES_EACH = 1000, (2, 1)  # of gRPC and of HTTP; descriptors that one of each takes
SENDING_SECONDS = 1  # for refusals and the last bytes of answers that are on their way when the server stops
logger = logging.getLogger("kmm.server")


class Server:
    """Serves models over gRPC, and over HTTP where a port is given.

    Args:
        models: list of `ModelSettings`.
        settings: `ServeSettings`.

    Attributes:
        port, rest_port: int. The ports that were bound; `rest_port` None without HTTP.

    Raises:
        InputError: if the address cannot be used, or a model has no version that can be served.
    """

    def __init__(self, models, settings=ServeSettings()):  # noqa: B008  frozen
        check_address(settings)
        self._settings, self._serving = settings, False
        self._catalogue = Catalogue()
        self._inference = Inference(self._catalogue, settings)
        self._grpc, self._probes, self.port = grpc_services.make_server(self._inference)
        self._rest, self.rest_port = None, None
        try:
            if settings.rest_port is not None:
                most = count_connections(MOST_CONNECTIONS, FILES_EACH, count_free_files())
                self._rest = RestServer(
                    self._inference,
                    Connections(most, noun="HTTP connections"),
                    lambda: self._serving,
                    lambda header: check_token(header, settings.token),
                )
                self.rest_port = self._rest.port
            self._catalogue.replace(models)
        except ServingError as error:
            self.stop(0)
            raise InputError(_tell_missing(models, error)) from None
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
            InputError: if the address of HTTP was taken meanwhile.
        """
        self._grpc.start()
        if self._rest is not None:
            try:
                self._rest.start()
            except BaseException:
                self.stop(0)
                raise
        if self._settings.poll_seconds:
            self._catalogue.start_polling(self._settings.poll_seconds)
        self._serving = True
        grpc_services.set_health(self._probes, serving=True)

    def stop(self, grace=None):
        """Takes no more requests, and lets those that run end.

        Args:
            grace: float. Seconds that they may take; None is what the settings say.

        Returns:
            bool. Whether all ended in time.
        """
        self._serving = False
        self._probes.enter_graceful_shutdown()
        ended = self._inference.drain(self._settings.grace_seconds if grace is None else grace)
        if self._rest is not None:
            self._rest.begin_stop(SENDING_SECONDS)
        self._grpc.stop(SENDING_SECONDS if ended else 0).wait()
        if self._rest is not None:
            self._rest.end_stop()
        self._catalogue.close()
        return ended

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.stop()


def _tell_missing(models, error):
    """Why models cannot be served, in one line."""
    for model in models:
        if not model.folder.is_dir():
            return f"{model.folder}: expected a folder with versions of a model. Found no folder."
    return f"{str(error).rstrip('.')}."
