"""
The no-op job on a published Python SDK: C{sdk_job.py ENGINE_URL PIPE}, in the SDK's own environment.

It writes the id of each job into the pipe, as the peers' jobs do.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from iii import InitOptions, register_worker


def main(url: str, pipe: str) -> None:
    stopping = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    descriptor = os.open(pipe, os.O_WRONLY)

    async def job(data: Any) -> None:
        os.write(descriptor, data["call"].encode())

    worker = register_worker(url, InitOptions(worker_name="bench-sdk-job"))
    worker.register_function("bench::job", job)
    signal.sigwait(stopping)
    worker.shutdown()


main(*sys.argv[1:])
