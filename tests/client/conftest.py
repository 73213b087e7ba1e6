import pytest

from kmm.client import Client
from tests.client.stub_server import StubServer, serve


@pytest.fixture
def stub():
    return StubServer()


@pytest.fixture
def address(stub):
    with serve(stub) as port:
        yield f"127.0.0.1:{port}/openi"


@pytest.fixture
def client(address):
    with Client(address, timeout=10) as client:
        yield client


@pytest.fixture
def film(tmp_path):
    """A PNG of a bright disk."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:32, :64]
    pixels = np.where((x - 44) ** 2 + (y - 18) ** 2 < 25, 220, 30).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "film.png")
    return tmp_path / "film.png"
