"""
Delivering: what stands in the lines is read from disk, started as calls, and what becomes of it is recorded.

The way of a job: it is committed, stands in its line, starts (L{Dispatcher.serve}), and its function answers
(L{Dispatcher._answered}).  Then its row goes, or is put again for a retry, or becomes a dead letter.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import msgspec
from msgspec import Raw
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from iii.core.complaints import Complaints
from iii.core.engine import Engine
from iii.core.errors import FunctionNotFound
from iii.core.invocations import Call, EngineErrorBody, error_body
from iii.core.tracing import continued
from iii.modules.queue.delivery import END, Piece
from iii.modules.queue.jobs import DEAD, DELAYED, INLINE, Job, JobStore, Target
from iii.modules.queue.ledger import LINGER, Ledger
from iii.modules.queue.missing import MissingFunctions
from iii.modules.queue.queues import Queue
from iii.modules.queue.retry import INTERRUPTIONS, MAX_INTERRUPTIONS
from iii.modules.queue.wakes import Wakes
from iii.storage.errors import StorageError
from iii.wire.messages import ABSENT, ErrorBody

STARTS = 256
"""Jobs of one queue that start in one turn of the reactor."""
SCAN = 4096
"""Rows that are looked at in one turn to find jobs beside those that are parked."""
MAX_LEFT_OUT = 200
PUT_OFF_MS = 1000
"""How long a job waits whose worker takes no more calls, or a queue that could not be served."""
MANY_MISSING_MS = 60_000
"""How long a job waits whose function is missing, when that holds for very many functions."""
MAX_ERROR = 4000
"""Characters that are kept of what a failure says, and of its stack trace."""
FALSE = Raw(b"false")


class Dispatcher:
    """
    Serves all queues.

    @ivar queues: By internal name; L{add} and L{remove} change it.
    @ivar ledger: Where outcomes are recorded.
    @ivar stopping: No job starts any more.
    """

    log = Logger()

    def __init__(
        self,
        engine: Engine,
        jobs: JobStore,
        clock: IReactorTime,
        *,
        chance: Callable[[], float] = random.random,
        linger: float = LINGER,
    ) -> None:
        """
        @param chance: Returns a number from 0 to 1, for the jitter of delays.
        @param linger: See L{Ledger}.
        """
        self._engine, self.jobs, self._clock, self._chance = engine, jobs, clock, chance
        self.queues: dict[str, Queue] = {}
        self._named: dict[str, dict[str, Queue]] = {}
        self.ledger = Ledger(jobs, clock, self.serve_all, linger)
        self.stopping, self._stopped = True, False
        self._missing = MissingFunctions(engine.functions, self.serve)
        self._scheduled: list[Queue] = []
        self._wakes: Wakes[Queue] = Wakes(clock, self.serve)
        self._complaints = Complaints(self.log, clock)

    # Starting and stopping.

    def start(self) -> None:
        """Begin to deliver."""
        self.stopping = False
        self._missing.start()
        self.serve_all()

    def drain(self) -> None:
        """Start no more jobs; those under way may end."""
        self.stopping = True
        self._wakes.stop()

    @property
    def busy(self) -> bool:
        """Some job is under way."""
        return any(queue.line.running for queue in self.queues.values())

    def stop(self) -> None:
        """Hand what is to be recorded to the store.  What still runs will run again."""
        self.drain()
        self._missing.stop()
        self._stopped = True
        self.ledger.flush()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._clock.seconds() * 1000)

    def tick(self) -> None:
        """Once a second: write again what failed to be written, and end the wait for functions that do not come."""
        if self.ledger.failing:
            self.ledger.flush()
        self._missing.look(self.now_ms())

    # Which queues there are.

    def add(self, queue: Queue) -> None:
        """Deliver a queue; there is none of its name."""
        self.queues[queue.name] = queue
        self._named.setdefault(queue.shown, {})[queue.name] = queue

    def remove(self, queue: Queue) -> None:
        """Forget a queue that has no jobs."""
        del self.queues[queue.name]
        alike = self._named[queue.shown]
        del alike[queue.name]
        if not alike:
            del self._named[queue.shown]

    def named(self, shown: str) -> list[Queue]:
        """Return the queues that users call so: a named queue, and one for each subscriber of a topic."""
        return list(self._named.get(shown, {}).values())

    def names(self) -> list[str]:
        """Return what users call the queues, each name once."""
        return list(self._named)

    # What comes.

    def arrived(self, queue: Queue, job: Job) -> None:
        """A job has been committed.  A large payload is on disk, and is not kept in memory."""
        if job.data is not None and len(job.data) > INLINE:
            job.data = None
        queue.counts[job.state] += 1
        if job.state == DELAYED:
            queue.line.put_off(job)
        else:
            queue.line.arrived(job)
        self.serve(queue)

    # Starting jobs.

    def serve_all(self) -> None:
        """Look at every queue."""
        for queue in self.queues.values():
            self.serve(queue)

    def serve(self, queue: Queue) -> None:
        """Start what may start, when this turn's events have been handled: what comes together starts together."""
        if not queue.scheduled:
            queue.scheduled = True
            if not self._scheduled:
                self._clock.callLater(0, self._serve_scheduled)
            self._scheduled.append(queue)

    def _serve_scheduled(self) -> None:
        scheduled, self._scheduled = self._scheduled, []
        for queue in scheduled:
            queue.scheduled = False
            try:
                self._serve(queue)
            except Exception:  # a defect: the others are served all the same
                self.log.failure("serving {queue} has failed", queue=queue.shown)
                self._wakes.at(queue, self.now_ms() + PUT_OFF_MS)

    def _serve(self, queue: Queue) -> None:
        if self.stopping or self.ledger.failing:
            return
        line, now = queue.line, self.now_ms()
        try:
            piece = line.wanted(now)
            if piece is not None:
                self._read(queue, piece, now)
            for _ in range(STARTS):
                job = line.next(now)
                if job is None:
                    break
                self._start(queue, job, now)
            else:
                self.serve(queue)
                return
            if line.wanted(now) is not None:
                self.serve(queue)
                return
        except StorageError as error:
            self._complaints.warn("{queue}: jobs cannot be read: {error}", queue=queue.shown, error=str(error))
            self._wakes.at(queue, now + PUT_OFF_MS)
        wake = line.wake_ms(now)
        if wake is not None:
            self._wakes.at(queue, wake)

    def _read(self, queue: Queue, piece: Piece, now: int) -> None:
        line, jobs, name = queue.line, self.jobs, queue.name
        if piece.kind == "group":
            line.read_group(piece, jobs.of_group(name, piece.group, piece.start[1], piece.count), now)
        elif piece.kind == "due":
            found = jobs.due(name, piece.start, now, piece.count)
            line.read_due(piece, found, jobs.next_due(name, now) if len(found) < piece.count else None)
        elif piece.kind == "retrying":
            line.read_retrying(jobs.delayed_positions(name, piece.count))
        elif 0 < len(piece.without) <= MAX_LEFT_OUT:
            found, following = jobs.ready_for_others(name, piece.start, piece.count, SCAN, piece.without)
            line.read_ready(piece, found, following or END)
        else:
            found = jobs.ready(name, piece.start, piece.count)
            last = found[-1] if len(found) == piece.count else None
            line.read_ready(piece, found, END if last is None else (last.rank, last.position + 1))

    def _start(self, queue: Queue, job: Job, now: int) -> None:
        functions = self._engine.functions
        if functions.find(job.namespace, job.function_id) is None:
            self._park(queue, job, job.target, now)
            return
        condition = queue.line.condition
        if condition is None:
            self._call(queue, job)
        elif functions.find(*condition) is None:
            self._park(queue, job, condition, now)
        else:
            self._invoke(queue, job, condition[1], partial(self._decided, queue, job))

    def _call(self, queue: Queue, job: Job) -> None:
        metadata = _metadata(queue, job) if queue.line.policy.delivery_metadata else ABSENT
        self._invoke(queue, job, job.function_id, partial(self._answered, queue, job), metadata)

    def _invoke(
        self,
        queue: Queue,
        job: Job,
        function_id: str,
        complete: Callable[[Call, Raw, ErrorBody | None], None],
        metadata: Raw = ABSENT,
    ) -> None:
        data = job.data
        if data is None:
            try:
                data = self.jobs.data(job)
            except StorageError as error:
                self._complaints.warn("{queue}: a payload cannot be read: {error}", queue=queue.shown, error=str(error))
                self._put_off(queue, job, PUT_OFF_MS)
                return
        self._engine.invoke(
            function_id,
            Raw(data),
            complete,
            namespace=job.namespace,
            metadata=metadata,
            timeout=queue.line.policy.timeout,
            traceparent=continued(job.traceparent),
            baggage=job.baggage,
        )

    def _decided(self, queue: Queue, job: Job, call: Call, result: Raw, error: ErrorBody | None) -> None:
        """The condition has answered."""
        if self._stopped:
            return
        if error is not None:
            self._answered(queue, job, call, result, error)
        elif result == FALSE:
            self._finished(queue, job)
        else:
            self._call(queue, job)

    # What has become of them.

    def _answered(self, queue: Queue, job: Job, call: Call, result: Raw, error: ErrorBody | None) -> None:
        if self._stopped:
            return
        if error is None:
            self._finished(queue, job)
        elif type(error) is EngineErrorBody and error.code in self._no_failures:
            self._no_failures[error.code](self, queue, job, error, call.function_id)
        else:
            self._failed(queue, job, error)

    def _finished(self, queue: Queue, job: Job) -> None:
        line = queue.line
        line.done(job)
        queue.counts[job.state] -= 1
        queue.delivered += 1
        self.ledger.remove(job, partial(line.written, job))
        self.serve(queue)

    def _failed(self, queue: Queue, job: Job, error: ErrorBody) -> None:
        job.attempts += 1
        queue.failed += 1
        policy = queue.line.policy
        if policy.exhausted(job.attempts):
            self._bury(queue, job, error)
        else:
            job.error = shortened(error)
            queue.retried += 1
            self._put_off(queue, job, policy.delay_ms(job.attempts, self._chance))

    def _put_off(self, queue: Queue, job: Job, delay_ms: int) -> None:
        """Let a job that runs run again later."""
        queue.line.failed(job)
        queue.counts[job.state] -= 1
        job.state, job.due_ms = DELAYED, self.now_ms() + delay_ms
        queue.counts[DELAYED] += 1
        self.ledger.put(job, partial(self._put_off_written, queue, job))
        self.serve(queue)

    def _put_off_written(self, queue: Queue, job: Job) -> None:
        queue.line.put_off(job)
        self.serve(queue)

    def _bury(self, queue: Queue, job: Job, error: ErrorBody) -> None:
        """Let a job that runs become a dead letter."""
        line = queue.line
        line.done(job)
        queue.counts[job.state] -= 1
        job.state, job.failed_ms, job.error = DEAD, self.now_ms(), shortened(error)
        queue.counts[DEAD] += 1
        queue.buried += 1
        self._complaints.warn(
            "{queue}: message {id} for {function} is a dead letter after {attempts} failed deliveries: {code}: {text}",
            queue=queue.shown, id=job.id, function=job.function_id, attempts=job.attempts, code=error.code,
            text=error.message,
        )  # fmt: skip
        self.ledger.put(job, partial(line.written, job))
        self.serve(queue)

    def _interrupted(self, queue: Queue, job: Job, error: ErrorBody, function_id: str) -> None:
        """The worker went: that is not the job's fault, up to a bound.  When the engine stops, it runs again later."""
        if self.stopping:
            del queue.line.running[job.position]  # on disk it still waits
            return
        if job.interruptions >= MAX_INTERRUPTIONS:
            self._failed(queue, job, error)
            return
        job.interruptions += 1
        self.ledger.put(job, partial(self._again, queue, job))

    def _again(self, queue: Queue, job: Job) -> None:
        queue.line.again(job)
        self.serve(queue)

    def _gone(self, queue: Queue, job: Job, error: ErrorBody, function_id: str) -> None:
        """The function went before it was called."""
        self._park(queue, job, (job.namespace, function_id), self.now_ms())
        self.serve(queue)

    def _overloaded(self, queue: Queue, job: Job, error: ErrorBody, function_id: str) -> None:
        queue.line.hold(job, (job.namespace, function_id), self.now_ms() + PUT_OFF_MS)
        self.serve(queue)

    _no_failures: ClassVar[Mapping[str, Callable[[Dispatcher, Queue, Job, ErrorBody, str], None]]] = {
        **dict.fromkeys(INTERRUPTIONS, _interrupted),
        "function_not_found": _gone,
        "worker_overloaded": _overloaded,
    }

    def _park(self, queue: Queue, job: Job, target: Target, now: int) -> None:
        deadline = self._missing.deadline_ms(queue, job, target, now)
        if deadline <= now:
            self._bury(queue, job, error_body(FunctionNotFound(target[1], target[0])))
        elif not self._missing.park(queue, job, target, deadline, now):
            self._put_off(queue, job, MANY_MISSING_MS)


def _metadata(queue: Queue, job: Job) -> Raw:
    """Return what a function is told about a delivery, if it wants to know (docs/queue.md)."""
    told = {
        "topic" if queue.topic else "queue": queue.shown,
        "message_id": job.id,
        "attempt": job.attempts + 1,
        "interruptions": job.interruptions,
        "created_at_ms": job.created_ms,
    }
    return Raw(msgspec.json.encode(told))


def shortened(error: ErrorBody) -> str:
    """Return an error as it is kept with a job."""
    trace = error.stacktrace
    kept = ErrorBody(error.code[:200], error.message[:MAX_ERROR], None if trace is None else trace[:MAX_ERROR])
    return msgspec.json.encode(kept).decode()
