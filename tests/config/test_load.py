"""Tests for L{iii.config.load}: whole files, the settings of the engine, and what is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from iii.config import ConfigError, Settings, default_settings, from_text, load
from iii.config.blocks.listeners import HttpSettings, WorkerManagerSettings
from iii.config.blocks.outside import BridgeSettings
from iii.config.parts import Tls
from iii.config.settings import ApiSettings, EngineSettings
from iii.core.limits import Limits
from tests.config.test_entries import ALWAYS
from tests.config.test_legacy import blocks

MISSING = "is not available yet; remove it, or wait for a later version"


def read(text: str, **environ: str) -> Settings:
    return from_text(text, "c.yaml", environ)


class EngineTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """The defaults are safe, and data is kept in a directory of the file's own."""
        self.assertEqual(read("").engine, EngineSettings(data_directory=Path(os.path.abspath("data/c"))))

    def test_all_keys(self) -> None:
        """Every key has an effect, and paths are absolute."""
        text = """
        engine:
          data_directory: d
          host: 0.0.0.0
          token: secret
          origins: [https://app.example.com, "http://[::1]:8080", "*"]
          api: {host: 10.0.0.1, port: 0, enabled: false, tls: {certificate: a, key: b}}
          ownership: exclusive
          limits: {connections: 7}
          call_timeout_ms: 1
          drain_timeout_ms: 2
          ping_interval_ms: 3
          tls: {certificate: /c, key: k}
        """
        cwd = Path.cwd()
        self.assertEqual(
            read(text).engine,
            EngineSettings(
                data_directory=cwd / "d",
                host="0.0.0.0",
                token="secret",
                origins=("https://app.example.com", "http://[::1]:8080", "*"),
                api=ApiSettings(host="10.0.0.1", port=0, enabled=False, tls=Tls(certificate=cwd / "a", key=cwd / "b")),
                ownership="exclusive",
                limits=Limits(connections=7),
                call_timeout_ms=1,
                drain_timeout_ms=2,
                ping_interval_ms=3,
                tls=Tls(certificate=Path("/c"), key=cwd / "k"),
            ),
        )

    def test_inherited(self) -> None:
        """Listeners whose blocks name no host and no TLS have those of the engine."""
        settings = read(
            "engine: {host: 10.0.0.1, tls: {certificate: /c, key: /k}}\n"
            "workers:\n- name: iii-http\n  config: {host: 10.0.0.2, tls: }\n- name: iii-stream"
        )
        tls = Tls(certificate=Path("/c"), key=Path("/k"))
        self.assertEqual(settings.engine.api, ApiSettings(host="10.0.0.1", tls=tls))
        found = blocks(settings)
        self.assertEqual(found["iii-http"], HttpSettings(host="10.0.0.2", tls=tls))
        self.assertEqual(found["iii-worker-manager"], WorkerManagerSettings(host="10.0.0.1", tls=tls))
        self.assertEqual(found["iii-stream"].host, "10.0.0.1")  # type: ignore[attr-defined]

    def test_environment(self) -> None:
        """Variables are defaults of host and token, which the file overrides; empty ones count as unset."""
        settings = read("", III_HOST="::", III_TOKEN="123")
        self.assertEqual((settings.engine.host, settings.engine.token), ("::", "123"))
        self.assertEqual(blocks(settings)["iii-worker-manager"], WorkerManagerSettings(host="::"))
        settings = read("engine: {host: h, token: t}", III_HOST="::", III_TOKEN="123")
        self.assertEqual((settings.engine.host, settings.engine.token), ("h", "t"))
        self.assertEqual(read("", III_HOST="", III_TOKEN="").engine, read("").engine)

    def test_namespace_grace(self) -> None:
        """The variable overrides the file; 0 is allowed in both."""
        text = "registration_namespace_grace_ms: 7"
        self.assertEqual(read("").registration_namespace_grace_ms, 5000)
        self.assertEqual(read(text).registration_namespace_grace_ms, 7)
        self.assertEqual(read(text, III_NAMESPACE_GRACE_MS="").registration_namespace_grace_ms, 7)
        self.assertEqual(read(text, III_NAMESPACE_GRACE_MS="0").registration_namespace_grace_ms, 0)
        for value in ("x", "-1", "2678400001", "1.5", "9" * 5000):
            error = self.assertRaises(ConfigError, read, text, III_NAMESPACE_GRACE_MS=value)
            self.assertEqual(
                str(error), "environment variable III_NAMESPACE_GRACE_MS: expected an integer from 0 to 2678400000"
            )

    def test_bridge_url(self) -> None:
        """A bridge whose block names no engine has that of the variable."""
        text = "workers: [name: iii-bridge]"
        self.assertEqual(blocks(read(text))["iii-bridge"], BridgeSettings(url="ws://127.0.0.1:49134"))
        self.assertEqual(blocks(read(text, III_URL="ws://h"))["iii-bridge"], BridgeSettings(url="ws://h"))


class RefusalTests(SynchronousTestCase):
    def refused(self, text: str) -> list[str]:
        error = self.assertRaises(ConfigError, read, text)
        return [re.sub(r" Known are .*?\.(?= |$)", "", problem) for problem in error.problems]

    def test_root(self) -> None:
        """The top level is a mapping with known keys."""
        for text in ("~", "[]", "x", "\n- name: iii-http"):
            line = 2 if "\n" in text else 1
            self.assertEqual(
                self.refused(text), [f"c.yaml:{line}: expected a mapping with keys such as workers and engine"]
            )
        self.assertEqual(self.refused("worker: []"), ["c.yaml:1: worker: unknown key, did you mean workers?"])
        self.assertEqual(self.refused("workers: {}"), ["c.yaml:1: workers: expected a list, got a mapping"])

    def test_engine(self) -> None:
        """What is wrong with the engine's settings is told beside what is wrong with modules."""
        self.assertEqual(
            self.refused(
                "engine:\n"
                "  toekn: x\n"
                "  call_timeout_ms: 0\n"
                "  api: {port: 65536}\n"
                "  limits: {connections: true}\n"
                "  tls: {certificate: c}\n"
                "workers: [{name: http, config: {port: -1}}]"
            ),
            [
                "c.yaml:2: engine.toekn: unknown key, did you mean token?",
                "c.yaml:3: engine.call_timeout_ms: expected an integer from 1 to 2678400000, got 0",
                "c.yaml:4: engine.api.port: expected an integer from 0 to 65535, got 65536",
                "c.yaml:5: engine.limits.connections: expected an integer from 1 to 1099511627776, got a boolean",
                "c.yaml:6: engine.tls.key: is missing",
                "c.yaml:7: http: config.port: expected an integer from 0 to 65535, got -1",
            ],
        )
        self.assertEqual(self.refused("engine: 1"), ["c.yaml:1: engine: expected a mapping, got an integer"])

    def test_origins(self) -> None:
        """An origin is written as browsers send it."""
        for origin in ("app.example.com", "https://app.example.com/", "https://App.example.com", "https://", "null"):
            self.assertEqual(
                self.refused(f"engine: {{origins: ['*', '{origin}']}}"),
                ["c.yaml:1: engine: origins[1] must be like https://app.example.com: lower case, no path"],
            )

    def test_unknown_module(self) -> None:
        """An unknown module is refused with the nearest name, and the way to run a program."""
        self.assertEqual(
            self.refused("workers:\n- name: iii-htp#1"),
            ['c.yaml:2: workers[0].name: "iii-htp#1" is not a part of this engine, did you mean iii-http? '
             "Programs of your own are not listed: they connect to the worker port."],
        )  # fmt: skip

    def test_both_names(self) -> None:
        """A module under both of its names is refused, each pair on its own."""
        text = (
            "c.yaml:1: workers[{}]: Duplicate worker configurations: 'iii-{name}' is the deprecated name for '{name}', "
            "but both are present. Remove 'iii-{name}' from your configuration."
        )
        self.assertEqual(
            self.refused("workers: [{name: http}, {name: iii-http}, {name: iii-cron}, {name: cron}]"),
            [
                text.format(1, name="http"),
                text.format(2, name="cron"),
                "c.yaml:1: workers[3].name: iii-cron can run only once, and is listed before",
            ],
        )

    def test_image(self) -> None:
        """A built-in module has no image."""
        self.assertEqual(
            self.refused("workers:\n- name: http\n  image: x"),
            ["c.yaml:3: workers[0].image: Worker 'http' is a built-in worker and cannot have an 'image' field"],
        )

    def test_entries(self) -> None:
        """An entry is a mapping with a name."""
        self.assertEqual(
            self.refused("workers:\n- iii-http\n-\n- {config: {}}\n- name: 5\n- {name: http, config: []}"),
            [
                "c.yaml:2: workers[0]: expected a mapping, got text",
                "c.yaml:3: workers[1].name: is missing",
                "c.yaml:4: workers[2].name: is missing",
                "c.yaml:5: workers[3].name: expected text, got an integer: put it in quotes",
                "c.yaml:6: http: config: expected a mapping, got a list",
            ],
        )

    def test_missing_keys(self) -> None:
        """Keys that this version does not have are refused, all at once; what means nothing by them is taken."""
        self.assertEqual(
            self.refused(
                "workers:\n"
                "- name: iii-worker-manager\n  config:\n    prot: 1\n    rbac: {}\n    middleware_function_id: f\n"
            ),
            [
                "c.yaml:4: iii-worker-manager: config.prot: unknown key, did you mean port?",
                f"c.yaml:5: iii-worker-manager: config.rbac: {MISSING}",
                f"c.yaml:6: iii-worker-manager: config.middleware_function_id: {MISSING}",
            ],
        )
        self.assertEqual(
            self.refused("modules: [{class: WorkerModule, config: {rbac: {auth_function_id: f}}}]"),
            [f"c.yaml:1: iii-worker-manager: config.rbac: {MISSING}"],
        )
        settings = read("workers: [{name: iii-worker-manager, config: {rbac: }}, {name: http}]")
        self.assertEqual(blocks(settings)["http"], HttpSettings())

    def test_missing_adapters(self) -> None:
        """Likewise adapters, under their old names, too."""
        missing = "is not available yet; use another, or wait for a later version"
        for text, place in (
            ("workers:\n- name: iii-state\n  config:\n    adapter:\n      name: bridge", "5: iii-state"),
            (
                "modules:\n- class: StateModule\n  config:\n    adapter: {class: 'modules::state::adapters::Bridge'}",
                "4: iii-state",
            ),
            ("workers:\n- name: iii-stream\n  config:\n    adapter:\n      name: bridge", "5: iii-stream"),
            ("workers:\n- name: iii-queue\n  config:\n    adapter:\n      name: bridge", "5: iii-queue"),
        ):
            self.assertEqual(self.refused(text), [f'c.yaml:{place}: config.adapter.name: "bridge" {missing}'])

    def test_blocks(self) -> None:
        """What a module's block must satisfy beyond the kinds of its values."""
        for name, config, problem in (
            ("iii-worker-manager", "{rbac: {expose_functions: ['a*']}}",
             'config.rbac: expose_functions[0] must be of the form match("pattern")'),
            ("iii-worker-manager", "{rbac: {expose_functions: [{match: a, metadata: {}}]}}",
             "config.rbac.expose_functions[0]: either match or metadata must be given"),
            ("iii-http", "{middleware: [{function_id: a, phase: onError}]}",
             'config.middleware[0].phase: expected preHandler, got "onError"'),
            ("iii-queue", "{queue_configs: {a: {type: fifo}}}",
             "config.queue_configs.a: a queue of type fifo needs message_group_field"),
            ("iii-queue", "{queue_configs: {a: {type: fifo, message_group_field: g, delay_ms: 1}}}",
             "config.queue_configs.a: a queue of type fifo has no delay_ms: its messages keep their order"),
            ("iii-queue", "{queue_configs: {a: {rate_limit: {jobs: 0}}}}",
             "config.queue_configs.a.rate_limit.jobs: expected an integer from 1 to 1099511627776, got 0"),
            ("iii-queue", "{queue_configs: {a: {type: zzz}}}",
             'config.queue_configs.a.type: expected one of fifo, standard, got "zzz"'),
            ("iii-queue", "{queue_configs: {a: {concurrency: 0}}}",
             "config.queue_configs.a.concurrency: expected an integer from 1 to 1099511627776, got 0"),
            ("iii-queue", "{queue_configs: {a: {max_retries: 4294967296}}}",
             "config.queue_configs.a.max_retries: expected an integer from 0 to 4294967295, got 4294967296"),
            ("iii-queue", "{queue_configs: {a: {max_priority: 0}}}",
             "config.queue_configs.a.max_priority: expected an integer from 1 to 255, got 0"),
            ("iii-state", "{adapter: {name: kv, config: {store_method: disk}}}",
             'config.adapter.config.store_method: expected one of file_based, in_memory, got "disk"'),
            ("iii-pubsub", "{adapter: {name: kafka}}",
             'config.adapter.name: expected one of local, redis, got "kafka"'),
            ("iii-observability", "{alerts: [{name: a, metric: b, threshold: 1, action: {type: mail}}]}",
             'config.alerts[0].action.type: expected one of function, log, webhook, got "mail"'),
            ("iii-exec", "", "config.exec: is missing"),
        ):  # fmt: skip
            problems = self.refused(f"workers: [{{name: {name}, config: {config}}}]")
            self.assertEqual([text for text in problems if MISSING not in text], [f"c.yaml:1: {name}: {problem}"])

    def test_secrets(self) -> None:
        """What is in the wrong place is not shown."""
        problems = self.refused("engine: {token: 12345678, api: '12345678', limits: [12345678]}")
        self.assertNotIn("12345678", "".join(problems))


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path: str = self.mktemp()

    def write(self, content: bytes) -> str:
        Path(self.path).write_bytes(content)
        return self.path

    def refused(self, path: str) -> str:
        return str(self.assertRaises(ConfigError, load, path, {}))

    def test_file(self) -> None:
        """A file is read, with or without a byte order mark; its path is absolute."""
        for content in (b"# ${X}\nengine: {host: h}", b"\xef\xbb\xbf# ${X}\nengine: {host: h}"):
            settings = load(self.write(content), {})
            self.assertEqual((settings.engine.host, settings.path), ("h", Path(os.path.abspath(self.path))))
        self.assertEqual(load(Path(self.path), {}), settings)

    def test_data_directory(self) -> None:
        """Its default has the name of the file, without the last suffix."""
        self.assertEqual(from_text("", "/etc/a.b.yaml", {}).engine.data_directory, Path.cwd() / "data/a.b")

    def test_missing(self) -> None:
        """A file that is not there is named."""
        self.assertEqual(self.refused(self.path), f"{self.path}: cannot be read: No such file or directory")

    def test_directory(self) -> None:
        """A directory is no file."""
        os.mkdir(self.path)
        self.assertEqual(self.refused(self.path), f"{self.path}: cannot be read: Is a directory")

    def test_unreadable(self) -> None:
        """A file that cannot be opened is named."""
        path = self.write(b"") + "/c.yaml"
        self.assertEqual(self.refused(path), f"{path}: cannot be read: Not a directory")

    def test_encoding(self) -> None:
        """A file that is not UTF-8, or binary, is refused with its line."""
        self.assertEqual(self.refused(self.write(b"a\nb\n\xff")), f"{self.path}:3: not UTF-8: byte 0xFF")
        self.assertEqual(self.refused(self.write(b"a\n\0")), f"{self.path}:2: the character U+0000 is not allowed")
        self.assertEqual(self.refused(self.write("a".encode("utf-16"))), f"{self.path}:1: not UTF-8: byte 0xFF")

    def test_endless(self) -> None:
        """No more of a file is read than a configuration may have."""
        self.assertEqual(self.refused("/dev/zero"), "/dev/zero: longer than 1048576 bytes")

    def test_no_file(self) -> None:
        """Without a file every module runs that needs no settings."""
        settings = load(None, {"III_HOST": "h"})
        self.assertEqual(settings, default_settings({"III_HOST": "h"}))
        self.assertIsNone(settings.path)
        self.assertEqual(settings.engine.data_directory, Path.cwd() / "data/default")
        self.assertEqual(
            sorted(entry.name for entry in (*settings.modules, *settings.unavailable)),
            sorted([*ALWAYS, "iii-http", "iii-stream", "iii-state", "iii-pubsub", "iii-cron"]),
        )
        self.assertEqual({entry.settings.host for entry in settings.modules if hasattr(entry.settings, "host")}, {"h"})
