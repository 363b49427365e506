"""
Named queues: what a message needs to get into one (spec/queue.md, 2.1 and 3).

C{engine::queue::enqueue} is on the hot path of every C{enqueue} action, so it works with callbacks: a coroutine for
each would cost as much as the rest of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b

import msgspec
from msgspec import Raw
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from iii.config.blocks.queue import QueueConfig
from iii.core.enqueuing import EnqueueRequest, Receipt
from iii.core.functions import Caller
from iii.core.ids import ordered_id
from iii.modules.queue.delivery import Line
from iii.modules.queue.dispatcher import Dispatcher
from iii.modules.queue.errors import (
    EnqueueFailed,
    GroupMissing,
    GroupNull,
    InvalidOption,
    KeepsOrder,
    QueueFull,
    QueueNotFound,
)
from iii.modules.queue.jobs import Change, IStore, Job
from iii.modules.queue.queues import Queue
from iii.modules.queue.retry import Policy
from iii.storage.errors import StorageError
from iii.storage.schema import DEDUPLICATION
from iii.wire.messages import DEFAULT_NAMESPACE, NULL

PREFIX = "__fn_queue::"
MAX_PRIORITY = 255
MAX_NAME = 200
"""Characters of a group or deduplication key that are kept as they are; of longer ones, a digest is."""
MAX_EXACT = 2**53
"""The integers up to here are the same as floating point numbers."""
MAX_DELAY_MS = 10 * 366 * 86_400_000
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_hidden = re.compile(r"(?:^|,)\s*iii\.tag\.(?:kind|display_name|hidden)\s*=[^,]*")


class NamedQueues:
    """
    The configured queues.

    @ivar queues: By the names that users know.
    """

    def __init__(self, dispatcher: Dispatcher, store: IStore, configs: Mapping[str, QueueConfig]) -> None:
        self._dispatcher, self._jobs, self._store, self._configs = dispatcher, dispatcher.jobs, store, configs
        self.queues = {name: Queue(PREFIX + name, name, Line(policy(config))) for name, config in configs.items()}

    def enqueue(self, given: EnqueueRequest, caller: Caller) -> Deferred[Receipt]:
        """C{engine::queue::enqueue}: fires when the message is on disk."""
        queue = self.queues.get(given.queue)
        if queue is None:
            raise QueueNotFound(given.queue)
        config = self._configs[given.queue]
        now = self._dispatcher.now_ms()
        data = bytes(given.data)
        due = now
        if config.type == "fifo":
            group, rank = _group(given, config, data), 0
            if given.delay_ms or given.run_at is not None:
                raise KeepsOrder(given.queue, "run_at" if given.run_at is not None else "delay_ms")
            if given.priority is not None:
                raise KeepsOrder(given.queue, "priority")
        else:
            group, rank = "", _rank(given, config, data)
            if given.delay_ms is not None or given.run_at is not None or config.delay_ms:
                due = max(now, _due_ms(given, config, now))
        baggage = given.baggage
        if baggage is not None and "iii.tag." in baggage:
            baggage = _hidden.sub("", baggage).lstrip(",") or None
        job = self._jobs.new(
            queue.name,
            id=given.messageReceiptId or ordered_id(now),
            namespace=given.namespace or DEFAULT_NAMESPACE,
            function_id=given.function_id,
            data=data,
            created_ms=now,
            due_ms=due,
            traceparent=given.traceparent,
            baggage=baggage,
            rank=rank,
            group=group,
        )
        if given.deduplication_key is not None:
            return self._enqueue_once(queue, job, given, config, now)
        return self._put(queue, config.max_jobs, job)

    def _put(self, queue: Queue, limit: int | None, job: Job, *others: Change) -> Deferred[Receipt]:
        if limit is not None and queue.unfinished >= limit:
            raise QueueFull(queue.shown, limit)
        jobs = self._jobs
        queue.coming += 1
        return jobs.write(jobs.row(job), *others).addCallbacks(
            self._stored, _not_taken, callbackArgs=(queue, job), errbackArgs=(queue,)
        )

    def _stored(self, _: None, queue: Queue, job: Job) -> Receipt:
        queue.coming -= 1
        self._dispatcher.arrived(queue, job)
        return Receipt(job.id)

    def _enqueue_once(
        self, queue: Queue, job: Job, given: EnqueueRequest, config: QueueConfig, now: int
    ) -> Deferred[Receipt]:
        """Take a message unless another one had its key a short while ago."""
        window = given.deduplication_window_ms
        if window is None:
            window = config.deduplication_window_ms
        elif not 0 < window <= MAX_DELAY_MS:
            raise InvalidOption("deduplication_window_ms", f"expected 1 to {MAX_DELAY_MS}, got {window}")
        key = queue.name, digested(given.deduplication_key or "")
        pending = self._store.pending(DEDUPLICATION, key)
        try:
            if pending is not None:
                present = pending.values
            else:
                rows = self._store.read("SELECT id, until_ms FROM deduplication WHERE queue = ? AND key = ?", key)
                present = rows[0] if rows else None
        except StorageError as error:
            return fail(EnqueueFailed(str(error)))
        if present is not None and present[1] > now:
            receipt = Receipt(present[0], deduplicated=True)
            if pending is None:
                return succeed(receipt)
            return pending.committed().addCallbacks(lambda _: receipt, _not_stored)
        return self._put(queue, config.max_jobs, job, (DEDUPLICATION, key, (job.id, now + window)))


def _not_taken(failure: Failure, queue: Queue) -> Receipt:
    queue.coming -= 1
    return _not_stored(failure)


def _not_stored(failure: Failure) -> Receipt:
    failure.trap(StorageError)
    raise EnqueueFailed(str(failure.value))


def policy(config: QueueConfig) -> Policy:
    """Return how a named queue delivers."""
    return Policy(
        ordered="groups" if config.type == "fifo" else None,
        concurrency=config.concurrency,
        deliveries=max(1, config.max_retries),
        backoff_ms=config.backoff_ms,
        max_backoff_ms=config.max_backoff_ms,
        backoff_jitter=config.backoff_jitter,
        fixed_backoff=config.backoff_type == "fixed",
        timeout=config.timeout_ms / 1000,
        missing_function_timeout_ms=config.missing_function_timeout_ms,
        rate_limit=config.rate_limit,
        dlq_max_jobs=config.dlq_max_jobs,
        dlq_retention_ms=config.dlq_retention_ms,
        delivery_metadata=config.delivery_metadata,
    )


def digested(text: str) -> str:
    """Return a text, or, if it is long, what stands for it."""
    if len(text) <= MAX_NAME:
        return text
    return f"blake2b:{blake2b(text.encode(), digest_size=20).hexdigest()}"


def _group(given: EnqueueRequest, config: QueueConfig, data: bytes) -> str:
    """Return the group of a message: its member, whatever that is, as JSON."""
    field = config.message_group_field
    assert field is not None
    value = _members(data).get(field) if data.startswith(b"{") else None
    if value is None:
        raise GroupMissing(given.queue, field)
    if value == NULL:
        raise GroupNull(given.queue, field)
    return digested(_canonical(bytes(value)).decode())


def _canonical(text: bytes) -> bytes:
    """
    Return JSON in one form for equal values: Python escapes what is not ASCII and puts spaces, Node does not, and a
    group that both write to is one.
    """
    if text.isdigit() or text.startswith(b'"') and b"\\" not in text:
        return text
    try:
        value = msgspec.json.decode(text)
        if isinstance(value, float) and abs(value) <= MAX_EXACT and value.is_integer():
            value = int(value)
        return msgspec.json.encode(value, order="sorted")
    except msgspec.DecodeError:
        return text  # a number that is too large is equal to itself


def _rank(given: EnqueueRequest, config: QueueConfig, data: bytes) -> int:
    priority = given.priority
    if priority is None:
        if config.priority_field is None or not data.startswith(b"{"):
            return 0
        value = _members(data).get(config.priority_field)
        text = b"" if value is None else bytes(value)
        if not text.isdigit():
            return 0
        priority = int(text[:20])
    elif priority < 0:
        raise InvalidOption("priority", f"expected 0 to {MAX_PRIORITY}, got {priority}")
    return -min(priority, config.max_priority or MAX_PRIORITY)


def _due_ms(given: EnqueueRequest, config: QueueConfig, now: int) -> int:
    """Return when a message may run."""
    if given.run_at is not None:
        if given.delay_ms is not None:
            raise InvalidOption("run_at", "cannot be given beside `delay_ms`")
        moment = given.run_at if isinstance(given.run_at, int) else _moment(given.run_at)
        if moment > now + MAX_DELAY_MS:
            raise InvalidOption("run_at", "more than ten years ahead")
        return moment
    delay = config.delay_ms if given.delay_ms is None else given.delay_ms
    if not 0 <= delay <= MAX_DELAY_MS:
        raise InvalidOption("delay_ms", f"expected 0 to {MAX_DELAY_MS}, got {delay}")
    return now + delay


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidOption("run_at", "expected milliseconds since the epoch, or a time in ISO 8601") from None
    if moment.tzinfo is None:
        raise InvalidOption("run_at", "the time has no offset from UTC")
    return int(moment.timestamp() * 1000)
