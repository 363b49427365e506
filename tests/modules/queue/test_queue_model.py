"""
The whole module against a multiset of messages with states: callers, workers, operators, time, a slow and failing disk,
and restarts, in any order.

What is written while the store is held is answered when it is released; the model then learns what has become of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from tests.core.fakes import FakeWorker, connect
from tests.modules.queue.case import QueueBench
from tests.modules.queue.fakes import SlowStore
from tests.modules.queue.machines import Machine, run_machine

DELIVERIES, INTERRUPTIONS, CONCURRENCY, TIMEOUT, WINDOW = 3, 3, 2, 4.5, 8.0
SETTINGS = {"max_retries": DELIVERIES, "backoff_ms": 1000, "timeout_ms": 4500, "concurrency": CONCURRENCY}
OF_TOPIC = {"maxRetries": DELIVERIES - 1, "backoffDelayMs": 1000, "timeoutMs": 4500, "concurrency": CONCURRENCY}
FUNCTIONS = ("f", "g")
TYPES = {"f": "standard", "g": "fifo"}
"""Of the subscriptions of these functions to the topic."""
NAMES = ("standard", "fifo", "t")
WAITING = ("ready", "delayed")
number = st.integers(0, 7)
function = st.sampled_from(FUNCTIONS)
name = st.sampled_from(NAMES)
quiet = precondition(lambda self: not self.store.held)
busy = precondition(lambda self: any(each.call for each in self.messages))
Lane = tuple[str, str]


class Bench(QueueBench):
    queues = {"standard": SETTINGS, "fifo": {**SETTINGS, "type": "fifo", "message_group_field": "group"}}


@attrs.define(eq=False)
class Message:
    """
    A message, or a subscriber's copy of one.

    @ivar lane: The named queue, or the topic and its function.
    @ivar state: C{asked}: not answered yet; C{ready}, C{delayed}, C{dead}, C{done}, C{cancelled}.
    @ivar call: The delivery under way, and who has it.
    @ivar unsaved: Its state is still being written.
    @ivar moving: Somebody is just moving it.
    @ivar again: Its worker went, and that is just being written.
    @ivar returned: It could not be cancelled, and may be out of order.
    @ivar saved: What the disk has of it.
    """

    number: int
    lane: Lane
    function: str
    order: int
    due: float
    rank: int = 0
    group: str = ""
    state: str = "asked"
    attempts: int = 0
    interruptions: int = 0
    failed: tuple[float, int] = (0, 0)
    receipt: str | None = None
    call: tuple[dict[str, Any], FakeWorker] | None = None
    since: float = 0
    unsaved: bool = False
    moving: bool = False
    again: bool = False
    returned: bool = False
    saved: dict[str, Any] | None = None

    @property
    def unfinished(self) -> bool:
        return self.state in WAITING

    @property
    def shown(self) -> str:
        return "running" if self.call or self.again else self.state

    def __repr__(self) -> str:
        return f"{self.number} in {self.lane} ({self.shown})"


class QueueMachine(Machine):
    """The module, its workers, and the model."""

    @initialize(here=st.lists(function, unique=True), subscribed=st.booleans())
    def begin(self, here: list[str], subscribed: bool) -> None:
        self.bench, self.store = Bench(), SlowStore()
        self.bench.open(self.store)
        self.messages: list[Message] = []
        self.count = self.order = 0
        self.keys: dict[str, tuple[Message, float]] = {}
        self.paused: set[str] = set()
        self.subscribed: list[str] = []  # in the order in which copies are made
        self.saved_paused: set[str] = set()
        self.tallies: Counter[tuple[str, str]] = Counter()
        self.forget_workers()
        for each in here:
            self.come(each)
            if subscribed:
                self.subscribe(each)

    def forget_workers(self) -> None:
        self.workers: dict[str, FakeWorker] = {}
        self.served: set[str] = set()
        self.late: list[tuple[dict[str, Any], FakeWorker]] = []
        self.seen: Counter[str] = Counter()
        self.asked: dict[str, Callable[[Any], None]] = {}

    # Asking.

    @property
    def now(self) -> float:
        return self.bench.clock.seconds()

    def ask(self, function_id: str, data: Any, then: Callable[[Any], None], **members: Any) -> None:
        self.asked[self.bench.worker.call(function_id, data, **members)] = then
        self.turn()

    def told(self, function_id: str, data: Any) -> Any:
        """What a function of the engine answers at once."""
        return self.bench.ask(function_id, data)

    def turn(self, seconds: float = 0, *, settled: bool = True) -> None:
        """Let time pass, and take what comes: answers first, then deliveries."""
        self.bench.turn(seconds)
        self.bench.turn()
        if settled and not self.store.held:
            self.settle()
        shop = self.bench.worker
        for call in list(self.asked):
            if any(each["invocation_id"] == call for each in shop.received("invocationresult")):
                self.asked.pop(call)(shop.outcome(call))
        for worker in self.workers.values():
            calls = worker.received("invokefunction")
            for call in calls[self.seen[worker.id] :]:
                self.starts(call, worker)
            self.seen[worker.id] = len(calls)

    # Deliveries.

    def starts(self, call: dict[str, Any], worker: FakeWorker) -> None:
        payload, function_id = call["data"], call["function_id"]
        (message,) = (
            each for each in self.messages if (each.number, each.function) == (payload["n"], function_id)
        )  # fmt: skip
        assert message.unfinished and message.call is None, f"{message} starts"
        assert not (message.unsaved or message.moving or message.again), f"{message} starts while it is written"
        assert message.due <= self.now, f"{message} starts too early"
        assert self.workers.get(function_id) is worker and self.open(message), f"{message} starts, and should not"
        earlier = [each for each in self.before(message) if not each.returned]
        assert message.returned or not earlier, f"{message} overtakes {earlier}"
        message.call, message.since = (call, worker), self.now
        running = [each for each in self.in_lane(message.lane) if each.call]
        assert len(running) <= self.limit(message.lane), f"{running} run at one time"

    def open(self, message: Message) -> bool:
        """Whether messages of its lane may start."""
        queue, subscriber = message.lane
        return queue not in self.paused and (not subscriber or subscriber in self.served)

    def limit(self, lane: Lane) -> int:
        return 1 if lane == ("t", "g") else CONCURRENCY

    def in_order(self, lane: Lane) -> bool:
        return lane[0] == "fifo" or lane == ("t", "g")

    def in_lane(self, lane: Lane) -> list[Message]:
        return [each for each in self.messages if each.lane == lane]

    def before(self, message: Message) -> list[Message]:
        """The earlier ones that it must wait for, where there is an order."""
        if not self.in_order(message.lane):
            return []
        return [
            each for each in self.in_lane(message.lane)
            if each.group == message.group and each.unfinished and not each.moving and each.order < message.order
        ]  # fmt: skip

    def could_start(self, message: Message) -> bool:
        return (
            message.unfinished
            and not (message.call or message.unsaved or message.moving or message.again)
            and message.due <= self.now
            and message.function in self.workers
            and self.open(message)
            and not self.before(message)
        )

    def nobody_waits(self) -> None:
        """What could start has started, as far as there is room."""
        for lane in {each.lane for each in self.messages}:
            running = [each for each in self.in_lane(lane) if each.call]
            if len(running) < self.limit(lane):
                left = [each for each in self.in_lane(lane) if self.could_start(each)]
                odd = {each.group for each in self.in_lane(lane) if each.returned and each.unfinished}
                left = [each for each in left if not (self.in_order(lane) and each.group in odd)]
                assert not left, f"nobody starts {left}"

    # What comes.

    def message(self, lane: Lane, function_id: str, **members: Any) -> Message:
        self.order += 1
        message = Message(self.count, lane, function_id, self.order, **{"due": self.now, **members})
        self.messages.append(message)
        return message

    @rule(to=function, group=st.sampled_from("ab"), queue=st.sampled_from(("standard", "fifo")),
          delay=st.sampled_from((0, 0, 2)), priority=st.sampled_from((0, 0, 5)),
          key=st.sampled_from((None, None, "k")), copies=st.sampled_from((1, 1, 3)))  # fmt: skip
    def enqueue(self, to: str, group: str, queue: str, delay: int, priority: int, key: str | None, copies: int) -> None:
        for _ in range(copies):
            self.enqueue_one(to, group, queue, delay, priority, key)

    def enqueue_one(self, to: str, group: str, queue: str, delay: int, priority: int, key: str | None) -> None:
        self.count += 1
        options: dict[str, Any] = {}
        if queue == "standard":
            options = {"delay_ms": delay * 1000, "priority": priority}
        else:
            delay = priority = 0
        message = self.message(
            (queue, ""), to, due=self.now + delay, rank=-priority, group=group if queue == "fifo" else ""
        )
        known = None
        if key is not None:
            options |= {"deduplication_key": key, "deduplication_window_ms": int(WINDOW * 1000)}
            known, until = self.keys.get(queue, (None, 0.0))
            if until <= self.now:
                known = None
                self.keys[queue] = message, self.now + WINDOW
        self.ask(
            to, {"n": self.count, "group": group}, partial(self.enqueued, message, known, delay),
            action={"type": "enqueue", "queue": queue, **options},
        )  # fmt: skip

    def enqueued(self, message: Message, known: Message | None, delay: int, answer: Any) -> None:
        if known is not None or isinstance(answer, tuple):
            self.messages.remove(message)
            if isinstance(answer, tuple):
                assert answer[0] == "enqueue_error" and "refused" in answer[1], answer
                self.keys = {queue: entry for queue, entry in self.keys.items() if entry[0] is not message}
            else:
                assert known is not None
                assert answer == {"messageReceiptId": known.receipt, "deduplicated": True}
            return
        assert list(answer) == ["messageReceiptId"], answer
        message.state, message.receipt = "delayed" if delay else "ready", answer["messageReceiptId"]

    @rule()
    def publish(self) -> None:
        self.count += 1
        copies = [self.message(("t", each), each) for each in self.subscribed]
        self.ask("iii::durable::publish", {"topic": "t", "data": {"n": self.count}}, partial(self.published, copies))

    def published(self, copies: list[Message], answer: Any) -> None:
        for copy in copies:
            if answer is None:
                copy.state = "ready"
            else:
                assert answer[0] == "publish_failed", answer
                self.messages.remove(copy)

    # Workers.

    @precondition(lambda self: len(self.workers) < len(FUNCTIONS))
    @rule(which=function)
    def come(self, which: str) -> None:
        if which in self.workers:
            return
        worker = self.workers[which] = connect(self.bench.engine, which)
        worker.register(which)
        self.turn()

    @quiet
    @rule(which=function)
    def subscribe(self, which: str) -> None:
        if which in self.served:
            return
        self.come(which)
        self.served.add(which)
        if which not in self.subscribed:
            self.subscribed.append(which)
        self.workers[which].register_trigger(
            f"t-{which}", "durable:subscriber", which,
            config={"topic": "t", "queue_config": {**OF_TOPIC, "type": TYPES[which]}},
        )  # fmt: skip
        self.turn()

    @quiet
    @rule(which=function)
    def unregister(self, which: str) -> None:
        """The trigger is unregistered on purpose: its subscription ends, and what waits stays."""
        if which in self.served:
            self.served.discard(which)
            self.subscribed.remove(which)
            self.workers[which].send("unregistertrigger", id=f"t-{which}", trigger_type="durable:subscriber")
            self.turn()

    @quiet
    @rule(which=function)
    def unsubscribe(self, which: str) -> None:
        absent = which not in self.served
        gone = [each for each in self.in_lane(("t", which)) if absent and each.unfinished and not each.call]
        for each in gone:
            each.state = "cancelled"
        told = self.told("engine::queue::unsubscribe", {"topic": "t", "function_id": which})
        assert told["unsubscribed"] == (absent and which in self.subscribed)
        assert told["discarded"] == len(gone), told
        if absent and which in self.subscribed:
            self.subscribed.remove(which)
        self.turn()

    @precondition(lambda self: self.workers)
    @rule(which=function)
    def leave(self, which: str) -> None:
        worker = self.workers.pop(which, None)
        if worker is None:
            return
        self.served.discard(which)
        for message in [each for each in self.messages if each.call and each.call[1] is worker]:
            message.call = None
            if message.interruptions == INTERRUPTIONS:
                self.failed(message, self.now)
            else:
                message.interruptions += 1
                message.again = True
        worker.leave()
        self.turn()

    def running(self, which: int) -> Message | None:
        running = [each for each in self.messages if each.call]
        return running[which % len(running)] if running else None

    @busy
    @rule(which=number)
    def finish(self, which: int) -> None:
        message = self.running(which)
        if message is not None and message.call is not None:
            call, worker = message.call
            message.call, message.state, message.unsaved = None, "done", True
            self.tallies[message.lane[0], "delivered"] += 1
            worker.answer(call, result=None)
            self.turn()

    @busy
    @rule(which=number)
    def fail(self, which: int) -> None:
        message = self.running(which)
        assert message is not None
        self.fail_one(message)

    def fail_one(self, message: Message) -> None:
        assert message.call is not None
        call, worker = message.call
        message.call = None
        self.failed(message, self.now)
        worker.answer(call, error={"code": "invocation_failed", "message": "boom"})
        self.turn()

    @quiet
    @busy
    @rule(which=number)
    def fail_often(self, which: int) -> None:
        """One message fails as long as it is delivered again."""
        message = self.running(which)
        assert message is not None
        for _ in range(2 * DELIVERIES):
            if message.call is not None:
                self.fail_one(message)
            self.pass_time(4)

    def failed(self, message: Message, now: float) -> None:
        message.attempts += 1
        message.unsaved = True
        self.tallies[message.lane[0], "failed"] += 1
        if message.attempts == DELIVERIES:
            message.state, message.failed = "dead", (now, message.order)
        else:
            message.state, message.due = "delayed", now + 2 ** (message.attempts - 1)

    @precondition(lambda self: self.late)
    @rule(which=number)
    def answer_late(self, which: int) -> None:
        """Nothing comes of the answer to a delivery that has timed out."""
        if self.late:
            call, worker = self.late.pop(which % len(self.late))
            if worker in self.workers.values():
                worker.answer(call, result=None)
                self.turn()

    @rule(seconds=st.sampled_from((1, 2, 5)))
    def pass_time(self, seconds: int) -> None:
        then = self.now + seconds
        for message in [each for each in self.messages if each.call and each.since + TIMEOUT < then]:
            assert message.call is not None
            self.late.append(message.call)
            message.call = None
            self.failed(message, then)
        self.turn(seconds)

    # Operators.

    def move(self, state: Iterable[str], which: int) -> Message | None:
        """Choose one of those in some state that have a receipt, or a copy that shows one."""
        chosen = [each for each in self.messages if each.shown in state and each.receipt and not each.moving]
        return chosen[which % len(chosen)] if chosen else None

    @precondition(lambda self: any(each.receipt for each in self.messages))
    @rule(which=number)
    def cancel(self, which: int) -> None:
        message = self.move(("ready", "delayed"), which) or self.move(("running", "dead", "done"), which)
        if message is None:
            return
        waits = message.unfinished and message.call is None and not message.unsaved and not message.again
        message.moving = waits
        self.ask(
            "engine::queue::cancel", {"queue": message.lane[0], "message_id": message.receipt},
            partial(self.moved, message, "cancelled", "cancelled", waits),
        )  # fmt: skip

    @precondition(lambda self: any(each.state == "dead" for each in self.messages))
    @rule(which=number, to=st.sampled_from(("iii::queue::redrive_message", "iii::queue::discard_message")))
    def move_dead(self, which: int, to: str) -> None:
        message = self.move(("dead",), which)
        if message is None:
            return
        dead = message.state == "dead" and not message.unsaved
        message.moving = dead
        state = "ready" if to == "iii::queue::redrive_message" else "cancelled"
        self.order += dead
        self.ask(
            to, {"queue": message.lane[0], "message_id": message.receipt},
            partial(self.moved, message, state, "redriven", dead, order=self.order, due=self.now),
        )  # fmt: skip

    def moved(self, message: Message, state: str, member: str, expected: bool, answer: Any, **members: Any) -> None:
        message.moving = False
        if isinstance(answer, tuple):
            assert "refused" in answer[1] and expected, answer
            message.returned = message.unfinished
            return
        assert answer[member] == expected, (message, answer)
        if expected:
            message.state = state
            if state == "ready":
                self.revive(message, **members)

    def revive(self, message: Message, order: int, due: float) -> None:
        message.attempts = message.interruptions = 0
        message.state, message.order, message.due = "ready", order, due

    @precondition(lambda self: any(each.state == "dead" for each in self.messages))
    @quiet
    @rule(
        queue=name, to=st.sampled_from(("iii::queue::redrive", "engine::queue::discard")), limit=st.none() | st.just(1)
    )
    def move_all(self, queue: str, to: str, limit: int | None) -> None:
        moved = []
        for lane in [("t", each) for each in FUNCTIONS] if queue == "t" else [(queue, "")]:
            moved.append(sorted((each for each in self.in_lane(lane) if each.state == "dead"), key=lambda m: m.failed))
        if limit is not None and len([lane for lane in moved if lane]) > 1:
            limit = None  # which of a topic's queues comes first is not said
        dead = [message for lane in moved for message in lane][:limit]
        for message in dead:
            self.order += 1
            if to == "iii::queue::redrive":
                self.revive(message, self.order, self.now)
            else:
                message.state = "cancelled"
        told = self.told(to, {"queue": queue, **({} if limit is None else {"limit": limit})})
        assert told["redriven" if to == "iii::queue::redrive" else "discarded"] == len(dead), told
        self.turn()

    @rule(queue=st.sampled_from(NAMES), on=st.booleans())
    def pause(self, queue: str, on: bool) -> None:
        def paused(answer: Any) -> None:
            if not isinstance(answer, tuple) and answer["paused"] is on:
                (self.paused.add if on else self.paused.discard)(queue)

        if queue != "t":
            self.ask(f"engine::queue::{'pause' if on else 'resume'}", {"queue": queue}, paused)

    # The disk.

    @quiet
    @rule()
    def hold(self) -> None:
        """From now on what is written waits."""
        self.store.hold()

    @precondition(lambda self: self.store.held)
    @rule(refused=st.booleans())
    def commit(self, refused: bool) -> None:
        wrote = self.store.release(refused=refused)
        self.turn(settled=not (refused and wrote))
        if refused:
            self.pass_time(1)  # what was refused is written again

    def settle(self) -> None:
        for message in self.messages:
            message.unsaved = message.again = False

    @invariant()
    def agree(self) -> None:
        """Unless the store is held, all is on disk, and the module and the model agree."""
        if not self.store.held:
            self.nobody_waits()
            self.numbers_agree()
            self.saved_paused = set(self.paused)
            for each in self.messages:
                each.saved = None if each.state == "asked" else {
                    member: getattr(each, member) for member in ("state", "attempts", "interruptions", "order", "due")
                }  # fmt: skip

    @rule(orderly=st.booleans())
    def restart(self, orderly: bool) -> None:
        if orderly and not self.store.held:
            self.bench.close()
        self.store.crash()
        for message in list(self.messages):
            message.call = None
            message.unsaved = message.again = message.moving = False
            if message.saved is None:
                assert message.receipt is None, f"the receipt of {message} is lost"
                self.messages.remove(message)
            else:
                for member, value in message.saved.items():
                    setattr(message, member, value)
        self.keys = {queue: entry for queue, entry in self.keys.items() if entry[0] in self.messages}
        self.paused = set(self.saved_paused)
        self.tallies.clear()
        self.forget_workers()
        self.bench.restart()
        self.turn()

    # What is shown.

    def numbers_agree(self) -> None:
        """What the functions report are the states of the model."""
        for queue in NAMES:
            mine = [each for each in self.messages if each.lane[0] == queue and each.state not in ("done", "cancelled")]
            states = Counter(each.shown for each in mine)
            stats = self.told("engine::queue::topic_stats", {"topic": queue})
            shown = {member: stats[member] for member in ("ready", "in_flight", "delayed", "dlq_depth")}
            expected = [states[state] for state in ("ready", "running", "delayed", "dead")]
            assert list(shown.values()) == expected, f"{queue}: {shown}, not {expected}"
            assert stats["depth"] == stats["ready"] + stats["in_flight"]
            assert stats["paused"] == (queue in self.paused)
            for tally in ("delivered", "failed"):
                if queue != "t":  # the numbers of a topic end with its queues
                    assert stats[tally] == self.tallies[queue, tally], f"{queue}: {stats}"
            jobs = self.told("engine::queue::jobs", {"queue": queue, "limit": 1000})
            found = sorted(
                (each["payload"]["n"], each["function_id"], each["state"], each["attempts"], each["interruptions"])
                for each in jobs
            )
            known = sorted((each.number, each.function, each.shown, each.attempts, each.interruptions) for each in mine)
            assert found == known, f"{queue}: {found}, not {known}"
            ids = {(each["payload"]["n"], each["function_id"]): each["id"] for each in jobs}
            for each in mine:
                each.receipt = each.receipt or ids[each.number, each.function]
                assert ids[each.number, each.function] == each.receipt, f"{each} has lost its receipt"
            letters = [each["id"] for each in self.told("engine::queue::dlq_messages", {"topic": queue, "limit": 1000})]
            dead = sorted((each for each in mine if each.state == "dead"), key=lambda m: m.failed, reverse=True)
            assert letters == [each.receipt for each in dead], queue

    # The end.

    def drain(self) -> None:
        """All that has been accepted and nobody took away is done, once more time has passed."""
        if not hasattr(self, "bench"):
            return
        if self.store.held:
            self.commit(refused=False)
        for queue in NAMES:
            self.pause(queue, on=False)
        for each in FUNCTIONS:
            self.come(each)
            self.subscribe(each)
        self.agree()
        for _ in range(200):
            while any(each.call for each in self.messages):
                self.finish(0)
            if not any(each.unfinished for each in self.messages):
                break
            self.pass_time(1)
        self.agree()
        assert all(each.state in ("done", "dead", "cancelled") for each in self.messages), self.messages
        states = {state for (state,) in self.store.read("SELECT state FROM job", ())}
        assert states <= {2}, states
        self.bench.close()


class QueueModelTests(SynchronousTestCase):
    timeout = 7200

    def test_model(self) -> None:
        """What the functions report are the states of the model; nothing is lost, and all that may run does."""
        run_machine(QueueMachine, 200, 50)
        assert not self.flushLoggedErrors()
