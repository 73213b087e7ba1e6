"""Calls of the client for asyncio, and studies to call it with."""

import asyncio

from kmm.client import AsyncClient


def ask(address, work, **options):
    async def run():
        async with AsyncClient(address, **options) as client:
            return await work(client)

    return asyncio.run(run())


def make_studies(count):
    from kmm.data.study import Report, Study

    return [Study(str(number), "", report=Report(findings="a" * (1 + number % 90))) for number in range(count)]
