"""The client for asyncio says what the other one says."""

import asyncio

import grpc
import numpy as np
import pytest

from kmm.errors import InputError, ServerError
from tests.client.calls import ask, make_studies


def test_the_same_answers(stub, address, client, film):
    async def work(other):
        one = await other.explain(film, "No mass.", "effusion")
        return [
            await other.predict(film, "ab"),
            await other.predict([film, None], [None, "x"]),
            await other.classify(film, "ab"),
            await other.status(),
            await other.metadata(),
            await other.describe(),
            (await other.embed(film)).tolist(),
            (one.words, one.heat.tolist()),
        ]

    one = client.explain(film, "No mass.", "effusion")
    assert ask(address, work) == [
        client.predict(film, "ab"),
        client.predict([film, None], [None, "x"]),
        client.classify(film, "ab"),
        client.status(),
        client.metadata(),
        client.describe(),
        client.embed(film).tolist(),
        (one.words, one.heat.tolist()),
    ]


def test_many_at_once(stub, address):
    async def work(client):
        return await asyncio.gather(*(client.predict(None, "a" * number) for number in range(1, 21)))

    found = ask(address, work)
    assert [round(row.probabilities["effusion"] * 100) for row in found] == list(range(1, 21))


def test_errors(stub, address, film):
    stub.failures = [(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(openi)")]
    with pytest.raises(ServerError, match="NOT_FOUND: Servable not found"):
        ask(address, lambda client: client.predict(film))
    with pytest.raises(InputError, match="neither a film nor a report"):
        ask(address, lambda client: client.predict())
    stub.failures = [(grpc.StatusCode.UNAVAILABLE, "busy")] * 2
    assert ask(address, lambda client: client.status())


def test_a_folder(stub, address, film, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")

    async def work(client):
        return [row async for row in client.predict_folder(tmp_path, concurrency=2)]

    bad, good = ask(address, work)
    assert bad.study.id == "a" and "a.png" in str(bad.problem) and bad.prediction is None
    assert good.study.id == "film" and good.problem is None and good.prediction.version == 3


def test_leaving_a_folder_early_leaves_nothing_running(stub, address):
    async def work(client):
        rows = client.predict_folder(make_studies(100), concurrency=4)
        async for row in rows:
            await rows.aclose()
            return row

    assert ask(address, work).prediction
    assert len(stub.requests) < 20


def test_arrays(stub, address):
    assert ask(address, lambda client: client.predict(np.eye(16, dtype=np.uint8))).model == "openi"
