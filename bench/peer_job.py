"""
The same no-op job on other queues, in environments of their own, where their workers import this module.

The job writes its id into the pipe C{BENCH_PIPE}, so that it is seen when it runs, in whatever thread or fork.
L{produce} reads C{PREFIX FIRST COUNT} in a line, enqueues that many jobs, one after the other as their users do, and
says so.  C{BENCH_PEER} names the peer and C{BENCH_REDIS} the port of its Redis.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

PEER, PORT = os.environ["BENCH_PEER"], int(os.environ["BENCH_REDIS"])
URL = f"redis://127.0.0.1:{PORT}/0"
_pipe = os.open(os.environ["BENCH_PIPE"], os.O_WRONLY)


def note(call: str) -> None:
    os.write(_pipe, call.encode())


if PEER == "celery":
    from celery import Celery

    app = Celery("bench", broker=URL)
    app.conf.task_ignore_result = True
    app.conf.broker_connection_retry_on_startup = True
    enqueue: Callable[[str], Any] = app.task(name="note")(note).delay

elif PEER == "dramatiq":
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    dramatiq.set_broker(RedisBroker(url=URL))
    enqueue = dramatiq.actor(note).send

elif PEER == "rq":
    import redis
    import rq

    queue = rq.Queue(connection=redis.Redis.from_url(URL))

    def enqueue(call: str) -> Any:
        return queue.enqueue("bench.peer_job.note", call, result_ttl=0)

elif PEER == "huey":
    from huey import RedisHuey

    huey = RedisHuey("bench", url=URL, results=False)
    enqueue = huey.task()(note)

elif PEER == "arq":
    from arq import create_pool
    from arq.connections import RedisSettings

    async def note_async(context: Any, call: str) -> None:
        note(call)

    class WorkerSettings:
        functions = (note_async,)
        redis_settings = RedisSettings.from_dsn(URL)
        keep_result = 0

    async def enqueue_all(calls: list[str]) -> None:
        pool = await create_pool(WorkerSettings.redis_settings)
        for call in calls:
            await pool.enqueue_job("note_async", call)
        await pool.aclose()


def produce() -> None:
    for line in sys.stdin:
        prefix, first, count = line.split()
        calls = [f"{prefix}{number:012x}" for number in range(int(first), int(first) + int(count))]
        if PEER == "arq":
            asyncio.run(enqueue_all(calls))
        else:
            for call in calls:
                enqueue(call)
        print("enqueued", count, flush=True)
