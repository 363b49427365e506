"""The jobs that there are, and what identifies one wherever it is."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import attrs
import msgspec
from msgspec import Raw
from twisted.internet.defer import DeferredLock

from iii.core.complaints import Complaints
from iii.core.triggers import Trigger
from iii.modules.cron.config import JobConfig
from iii.modules.cron.store import OneShot
from iii.wire.messages import ABSENT, NULL, value_of


@attrs.define(eq=False)
class Job:
    """
    A function, and when it is called.

    @ivar key: The same on every engine and after every restart.
    @ivar trigger_id: As it was registered, perhaps by a worker that has gone.
    @ivar trigger: What has registered it; C{None}: nobody does any more, and it runs once nevertheless.
    @ivar offset: Seconds from its slots to its runs.
    @ivar active: Its runs that are under way or wait.
    @ivar turn: Held by the run that is under way, where one waits for the other.
    @ivar live: It has not been ended.
    @ivar promised: It is kept, because it runs once and has not run yet.
    @ivar complaints: Of its failures, once there was one: those of one job do not hide those of others.
    """

    key: str
    trigger_id: str
    function_id: str
    namespace: str
    config: JobConfig
    metadata: Raw = ABSENT
    trigger: Trigger | None = None
    offset: int = 0
    active: int = 0
    turn: DeferredLock = attrs.field(factory=DeferredLock)
    live: bool = True
    promised: bool = False
    complaints: Complaints | None = None


class JobTable:
    """All jobs, by key and by the id of their triggers."""

    def __init__(self) -> None:
        self._by_key: dict[str, Job] = {}
        self._by_trigger: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._by_key.values())

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def find(self, text: str) -> Job | None:
        """Return the job with this trigger id, or else with this key."""
        return self._by_trigger.get(text) or self._by_key.get(text)

    def free_key(self, identity: str) -> tuple[str, Job | None]:
        """
        Return the key for a trigger of an identity, and the job that waits for such a trigger, if one does.  Equal
        triggers of one engine are several jobs; the core allows a bounded number.
        """
        number, key = 0, identity
        while (job := self._by_key.get(key)) is not None and job.trigger is not None:
            number += 1
            key = f"{identity}#{number}"
        return key, job

    def add(self, job: Job) -> None:
        self._by_key[job.key] = self._by_trigger[job.trigger_id] = job

    def rename(self, job: Job, trigger_id: str) -> None:
        """A job has a trigger again, perhaps with another id."""
        self._by_trigger.pop(job.trigger_id, None)
        job.trigger_id = trigger_id
        self._by_trigger[trigger_id] = job

    def remove(self, job: Job) -> None:
        if self._by_key.get(job.key) is job:
            del self._by_key[job.key]
        if self._by_trigger.get(job.trigger_id) is job:
            del self._by_trigger[job.trigger_id]


def identity(namespace: str, function_id: str, config: Raw, metadata: Raw) -> str:
    """
    Return what jobs that do the same have in common: 32 hexadecimal digits.  Trigger ids are not in it: SDKs make new
    ones for each registration, so that the replicas of a worker have different ones.
    """
    parts = [namespace, function_id, value_of(config), value_of(metadata) if metadata else None]
    return blake2b(msgspec.json.encode(parts, order="sorted"), digest_size=16).hexdigest()


def offset_of(key: str, jitter: int) -> int:
    """Return how many seconds after its slots a job runs: at most C{jitter}, always as many, for each job others."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) % (jitter + 1)


def one_shot(job: Job, config: Raw) -> OneShot:
    """Return a job as it is kept."""
    return OneShot(job.trigger_id, job.function_id, job.namespace, config, job.metadata or NULL)
