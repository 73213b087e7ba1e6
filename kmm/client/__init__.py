"""Python client of a classifier served by `kmm serve` or TensorFlow Serving, which use the same messages.

    from kmm.client import Client

    with Client("localhost:8500/openi") as client:
        print(client.predict("film.png", "No focal opacity.").probabilities)

Importing this package loads neither TensorFlow nor Keras.
"""

from kmm.client.aio import AsyncClient as AsyncClient
from kmm.client.folder import Row as Row
from kmm.client.results import ServedExplanation as ServedExplanation
from kmm.client.results import ServedWord as ServedWord
from kmm.client.sync import Client as Client
from kmm.client.tls import Tls as Tls
from kmm.protocol.predictions import Prediction as Prediction
from kmm.protocol.predictions import Predictions as Predictions
