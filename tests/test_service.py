"""Tests for L{iii.service}: the tree of services, without and with real sockets."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
from pathlib import Path

import treq
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent

from iii.config import default_settings, from_text
from iii.config.modules import MODULES
from iii.lifecycle import EngineServices
from iii.options import Options
from iii.service import BUILDERS, build, makeService, notes, readiness
from iii.storage.errors import StorageError, StoreBusy
from iii.storage.redis_service import RedisService
from iii.storage.sqlite import Store
from tests.certificates import chained
from tests.worker import Worker, connect

LISTENERS = (
    "workers: [{name: http#b}, {name: iii-worker-manager}, {name: iii-engine-functions}, {name: iii-worker-manager}]"
)


class Reactor(Clock):
    """A reactor of which nothing is asked but the time."""

    def callFromThread(self, *call: object) -> None:
        raise AssertionError("nothing runs in threads")


class TreeTests(SynchronousTestCase):
    def build(self, text: str) -> EngineServices:
        return build(from_text(text, "c.yaml", {}), Reactor(), foreground=True)  # type: ignore[arg-type]

    def names(self, text: str) -> list[str]:
        return [service.name for service in self.build(text)]

    def test_order(self) -> None:
        """The API starts first, then the store; what work comes in through starts last, workers before HTTP."""
        self.assertEqual(
            self.names(LISTENERS),
            [
                "api",
                None,
                "iii-engine-functions",
                "iii-observability",
                "iii-queue",
                "iii-worker-manager",
                "iii-worker-manager#1",
                "http#b",
            ],
        )

    def test_redis_backlog(self) -> None:
        """What waits for Redis has the limit that its error names."""
        tree = self.build(
            "{engine: {limits: {store_backlog_bytes: 1000}}, workers: [{name: iii-state, "
            "config: {adapter: {name: redis, config: {redis_url: 'redis://localhost'}}}}]}"
        )
        [service] = [child for child in tree if isinstance(child, RedisService)]
        refusal = self.failureResultOf(service.link.execute("SET", "k", "x" * 1000), StoreBusy)
        self.assertIn("1000 bytes wait to be written already", refusal.getErrorMessage())

    def test_readiness(self) -> None:
        """A store that cannot commit and a Redis without a connection are named, with the reason, and counted."""
        tree = self.build(
            "{engine: {data_directory: d/own}, workers: [{name: iii-cron}, {name: iii-state, "
            "config: {adapter: {name: redis, config: {redis_url: 'redis://u:secret@localhost'}}}}]}"
        )
        found = readiness(tree, tree._engine)
        self.assertEqual(found["store own"], "")
        unconnected = "no connection to Redis at redis://localhost:6379: not started"
        self.assertEqual(found["redis redis://localhost:6379"], unconnected)
        [store] = [child for child in tree if isinstance(child, Store)]
        store._commit_failed(StorageError("d/own/store.db: database or disk is full"))
        self.assertEqual(readiness(tree, tree._engine)["store own"], "d/own/store.db: database or disk is full")
        self.assertEqual(tree._engine.counters.store_failed_commits, 1)

    def test_no_api(self) -> None:
        """The API can be switched off."""
        self.assertNotIn("api", self.names("engine: {api: {enabled: false}}"))

    def test_introspection(self) -> None:
        """The engine knows its modules under the names of their entries."""
        tree = self.build(LISTENERS)
        modules = tree._engine.modules
        self.assertEqual([module.id for module in modules], [service.name for service in tree][2:])
        self.assertEqual(modules[-1].name, "iii-http")

    def test_available(self) -> None:
        """What the configuration says to be available is what can be built."""
        self.assertEqual(set(BUILDERS), {module.name for module in MODULES.values() if module.available})

    def test_twice(self) -> None:
        """What the configuration lets stand there twice can be built twice."""
        for module in MODULES.values():
            if module.available and not module.once:
                names = self.names(f"workers: [{{name: {module.name}}}, {{name: {module.name}}}]")
                self.assertLessEqual({module.name, f"{module.name}#1"}, set(names))


class NotesTests(SynchronousTestCase):
    def notes(self, text: str) -> list[str]:
        return notes(from_text(text, "/etc/c.yaml", {}))

    def test_running(self) -> None:
        """The start says which file it has read, what runs, and what it leaves out."""
        running, missing = self.notes("workers: [{name: http}, {name: iii-bridge}]")
        self.assertEqual(
            running,
            "configured by /etc/c.yaml: running http, iii-worker-manager, iii-engine-functions, iii-observability, "
            "iii-queue",
        )
        self.assertTrue(missing.startswith("not available in this version yet: iii-bridge, "), missing)

    def test_without_file(self) -> None:
        """Without a file one line says that, and names what runs of the full default set; another what is to come."""
        running, missing = notes(default_settings({}))
        default = [module for module in MODULES.values() if module.always or module.without_file]
        names = ", ".join(module.name for module in default if module.available)
        self.assertEqual(running, f"no configuration file: running every module with its defaults ({names})")
        for module in default:
            self.assertEqual(module.name in missing, not module.available, module.name)

    def test_warnings(self) -> None:
        """What is accepted and has no effect is said with its line."""
        (warning,) = self.notes("workers:\n- name: http\n- name: iii-engine-functions\n  config: {x: 1}")[2:]
        self.assertTrue(warning.startswith("/etc/c.yaml:4: iii-engine-functions: config.x: unknown key"), warning)


class RefusalTests(SynchronousTestCase):
    def make(self, text: str) -> str:
        path = self.mktemp()
        Path(path).write_text(text)
        options = Options()
        options.parseOptions(["-c", path])
        return str(self.assertRaises(SystemExit, makeService, options).code).replace(path, "c.yaml")

    def test_refused(self) -> None:
        """Everything that is wrong is said at once, each with file, line and key."""
        said = self.make(
            "engine: {prot: 1}\n"
            "workers:\n- name: iii-worker-manager\n  config:\n    rbac: {auth_function_id: a}\n    port: x\n"
            "- name: http\n  config: {middleware: [{function_id: 5}]}\n"
        )
        self.assertEqual(
            [re.split(r"\. Known|;", line)[0] for line in said.removeprefix("iii: ").splitlines()],
            [
                "c.yaml:1: engine.prot: unknown key",
                "c.yaml:5: iii-worker-manager: config.rbac: is not available yet",
                "c.yaml:6: iii-worker-manager: config.port: expected an integer from 0 to 65535, got text",
                "c.yaml:8: http: config.middleware[0].function_id: expected text, got an integer: put it in quotes",
            ],
        )


class SocketTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):  # the tree takes them
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.addCleanup(gc.unfreeze)  # the tree has frozen what the tests have made

    def start(self, text: str) -> EngineServices:
        settings = from_text(text, os.path.abspath("c.yaml"), {})
        tree = build(settings, reactor, foreground=True)  # type: ignore[arg-type]
        tree.startService()
        self.addCleanup(lambda: None if tree._engine.stopping else tree.stopService())
        return tree

    async def connect(self, port: int, root: bytes | None = None) -> Worker:
        worker = await connect(reactor, port, root)
        self.addCleanup(worker.close)
        return worker

    async def test_two_listeners(self) -> None:
        """A worker at one listener calls a function of a worker at another one: they share one engine."""
        tree = self.start(
            "engine: {api: {enabled: false}}\n"
            "workers: [{name: iii-worker-manager, config: {port: 0}}, {name: iii-worker-manager, config: {port: 0}}]"
        )
        ports = [tree.getServiceNamed(f"iii-worker-manager{suffix}").port for suffix in ("", "#1")]
        first, second = [await self.connect(port) for port in ports]
        await first.serve("first")
        await second.serve("second")
        self.assertEqual(await first.call("second", 1), {"by": "second", "got": 1})
        self.assertEqual(await second.call("first", 2), {"by": "first", "got": 2})

    async def test_whole_tree(self) -> None:
        """HTTP reaches the worker; the API tells who listens, also while stopping waits for an answer."""
        tree = self.start(
            "engine: {api: {port: 0}, drain_timeout_ms: 5000}\n"
            "workers: [{name: iii-worker-manager, config: {port: 0}}, {name: http, config: {port: 0}}]"
        )
        worker = await self.connect(tree.getServiceNamed("iii-worker-manager").port)
        await worker.serve("f")
        config = {"api_path": "f", "http_method": "GET"}
        trigger = {"type": "registertrigger", "id": "t", "trigger_type": "http", "function_id": "f", "config": config}
        worker.sendMessage(json.dumps(trigger).encode())
        await worker.call("engine::workers::list", {})  # so the trigger is there
        agent = Agent(reactor)  # without a pool, so that no connection outlives the request
        http, api = tree.getServiceNamed("http").port, tree.getServiceNamed("api").port
        response = await treq.get(f"http://127.0.0.1:{http}/f", agent=agent)
        self.assertEqual(response.code, 200)
        await response.content()
        response = await treq.get(f"http://127.0.0.1:{api}/readyz", agent=agent)
        names = ("engine", "store c", "iii-queue", "iii-worker-manager", "http")
        self.assertEqual(await response.json(), {"status": "ready", "parts": dict.fromkeys(names, True)})
        worker.held = []
        answer = treq.get(f"http://127.0.0.1:{http}/f", agent=agent)
        while not worker.held:
            await deferLater(reactor, 0.01)
        stopped = tree.stopService()
        response = await treq.get(f"http://127.0.0.1:{api}/readyz", agent=agent)
        self.assertEqual(response.code, 503)
        self.assertEqual(
            (await response.json())["parts"],
            {"engine": False, "store c": True, "iii-queue": False, "iii-worker-manager": False, "http": False},
        )
        worker.answer(worker.held[0])
        response = await answer
        self.assertEqual(response.code, 200)
        await response.content()
        await stopped

    async def test_tls(self) -> None:
        """Workers connect by TLS where the file says so, and frames of all sizes pass."""
        certificate, key, root = chained(self.mktemp())
        tree = self.start(
            f"engine: {{api: {{enabled: false}}, tls: {{certificate: '{certificate}', key: '{key}'}}}}\n"
            "workers: [{name: iii-worker-manager, config: {port: 0}}]"
        )
        port = tree.getServiceNamed("iii-worker-manager").port
        caller, callee = await self.connect(port, root), await self.connect(port, root)
        await callee.serve("f")
        for size in (0, 1000, 100_000, 900_000):
            self.assertEqual(await caller.call("f", "x" * size), {"by": "f", "got": "x" * size})
