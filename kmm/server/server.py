"""A server of models: started, announced and stopped."""

import logging
import socket
import ssl
import threading
import time

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from kmm.errors import InputError
from kmm.server import grpc_services
from kmm.server.access import check_address
from kmm.server.models.catalogue import Catalogue
from kmm.server.requests.inference import Inference
from kmm.server.rest import app
from kmm.server.settings import ServeSettings
from kmm.server.status import ServingError

NOTICE = (
    "kmm serve is compatible with TensorFlow Serving's protocol and meant for development and small sites; in "
    "production serve the same folders with TensorFlow Serving. Not for diagnosis."
)
KEEP_ALIVE = 64  # connections over HTTP that may be open besides those that work
SILENT_SECONDS = 10  # for a new connection over HTTP to send the head of its first request
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
        self._catalogue = Catalogue(explain_at_start=settings.explain_at_start)
        self._inference = Inference(self._catalogue, settings)
        self._grpc, self._probes, self.port = grpc_services.make_server(self._inference)
        self._rest, self.rest_port = None, None
        try:
            if settings.rest_port is not None:
                self._rest = _RestServer(self._inference, lambda: self._serving)
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
            InputError: if HTTP cannot be spoken.
        """
        self._grpc.start()
        if self._rest is not None and not self._rest.start():
            self.stop(0)
            raise InputError(f"{self._settings.host}:{self.rest_port}: the server of HTTP ended at its start.")
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
            self._rest.begin_stop()
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


class _Http(AutoHTTPProtocol):
    """Closes connections that stay silent: uvicorn counts them, and at its limit answers nobody else."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.loop.call_later(SILENT_SECONDS, self._close_if_silent)

    def _close_if_silent(self):
        if self.cycle is None:  # no request began
            self.transport.close()


class _RestServer:
    """uvicorn in a thread of its own, on a socket that is bound at once."""

    def __init__(self, inference, is_serving):
        settings = inference.settings
        threads = settings.threads + settings.explain_threads + 2 * settings.max_queue
        host = settings.host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, settings.rest_port), family=family)
        except OSError as error:
            raise InputError(
                f"{host}:{settings.rest_port}: expected an address that is free. {error.strerror}."
            ) from None
        self.port = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                app.make_app(inference, is_serving, threads=threads),
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                http=_Http,
                limit_concurrency=threads + KEEP_ALIVE,
                server_header=False,
                timeout_graceful_shutdown=SENDING_SECONDS,
                ssl_certfile=settings.certificate,
                ssl_keyfile=settings.key,
                ssl_ca_certs=settings.client_authority and str(settings.client_authority),
                ssl_cert_reqs=ssl.CERT_REQUIRED if settings.client_authority else ssl.CERT_NONE,
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="kmm-rest", daemon=True)

    def start(self):
        """Returns whether it answers now."""
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.005)
        return self._server.started

    def begin_stop(self):
        self._server.should_exit = True

    def end_stop(self):
        if self._thread.is_alive():
            self._thread.join(2 * SENDING_SECONDS)
        self._socket.close()


def _tell_missing(models, error):
    """Why models cannot be served, in one line."""
    for model in models:
        if not model.folder.is_dir():
            return f"{model.folder}: expected a folder with versions of a model. Found no folder."
    return f"{str(error).rstrip('.')}."
