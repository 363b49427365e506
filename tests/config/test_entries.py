"""Tests for L{iii.config.entries}, and for the blocks of modules: what a file lists, and what runs."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from iii.config import ConfigError, Settings, default_settings, from_text
from iii.config.blocks.listeners import HttpSettings, Rbac, WorkerManagerSettings
from iii.config.blocks.outside import ExecSettings
from iii.config.blocks.queue import QueueConfig, QueueSettings
from iii.config.errors import Place, Report
from iii.config.modules import MODULES, NAMES
from iii.config.reader import Reader
from iii.config.settings import ModuleEntry
from tests.config.test_legacy import blocks

ALWAYS = ["iii-worker-manager", "iii-engine-functions", "configuration", "iii-observability", "iii-queue"]


def read(text: str) -> Settings:
    return from_text(text, "c.yaml", {})


class ModuleTests(SynchronousTestCase):
    def names(self, text: str) -> list[str]:
        """Return what runs, the entries of the file first."""
        settings = read(text)
        return [entry.name for entry in (*settings.modules, *settings.unavailable)]

    def test_empty(self) -> None:
        """An empty file runs what always runs; C{workers} with nothing after it is an empty list."""
        for text in ("", "{}", "workers:", "workers: []\nmodules:\n"):
            self.assertEqual(sorted(self.names(text)), sorted(ALWAYS))

    def test_order(self) -> None:
        """C{workers} come before C{modules}, both in order, then what always runs."""
        settings = read("modules: [name: iii-http]\nworkers: [name: iii-engine-functions]")
        self.assertEqual(
            [entry.name for entry in settings.modules],
            ["iii-engine-functions", "iii-http", "iii-worker-manager", "iii-observability", "iii-queue"],
        )

    def test_unavailable(self) -> None:
        """What this version does not have yet is checked, and kept apart."""
        settings = default_settings({})
        self.assertTrue(all(MODULES[entry.module].available for entry in settings.modules))
        self.assertFalse(any(MODULES[entry.module].available for entry in settings.unavailable))
        for name in MODULES:
            self.assertRaises(ConfigError, read, f"workers: [{{name: {name}, config: []}}]")

    def test_alias(self) -> None:
        """An alias names the module, and stays the name of the entry."""
        entry = read("workers: [{name: http, config: {port: 1}}]").modules[0]
        self.assertEqual(entry, ModuleEntry(name="http", module="iii-http", settings=HttpSettings(port=1)))

    def test_several(self) -> None:
        """Entries of one name are numbered; what follows a C{#} in the file is kept."""
        text = "workers: [{name: iii-worker-manager}, {name: iii-worker-manager, config: {port: 1}}, {name: http#a}]"
        found = blocks(read(text))
        self.assertEqual(found["iii-worker-manager#1"], WorkerManagerSettings(port=1))
        self.assertEqual(found["http#a"], HttpSettings())

    def test_once(self) -> None:
        """Modules whose functions would be there twice can be listed once."""
        text = "workers:\n- name: state\n- name: state#b\n- name: iii-http\n- name: iii-http"
        (problem,) = self.assertRaises(ConfigError, read, text).problems
        self.assertEqual(problem, "c.yaml:3: workers[1].name: iii-state can run only once, and is listed before")

    def test_queue_disabled(self) -> None:
        """The queue can be left to another provider."""
        self.assertNotIn("iii-queue", self.names("workers: [{name: iii-queue, config: {enabled: false}}]"))

    def test_default_queue(self) -> None:
        """A queue called C{default} always exists; one that is configured stays."""
        text = "workers: [{name: queue, config: {queue_configs: {%s}}}]"
        found = blocks(read(text % "a: ")).get("queue")
        self.assertEqual(found, QueueSettings(queue_configs={"a": QueueConfig(), "default": QueueConfig()}))
        found = blocks(read(text % "default: {concurrency: 1}")).get("queue")
        self.assertEqual(found, QueueSettings(queue_configs={"default": QueueConfig(concurrency=1)}))

    def test_telemetry(self) -> None:
        """C{iii-telemetry} is accepted, and nothing of it runs."""
        self.assertNotIn("iii-telemetry", self.names("workers: [{name: iii-telemetry, config: {api_key: x}}]"))

    def test_ignored(self) -> None:
        """What is ignored is a warning: keys of adapters, and of what has no keys."""
        settings = read(
            "workers:\n"
            "- name: iii-engine-functions\n  config: {y: 1}\n"
            "- name: iii-state\n  type: engine\n  config: {adapter: {name: kv, config: {file_pat: z}}}"
        )
        self.assertEqual(
            [re.sub(r" Known .*", "", warning) for warning in settings.warnings],
            [
                "c.yaml:3: iii-engine-functions: config.y: unknown key, ignored, there are none here.",
                "c.yaml:6: iii-state: config.adapter.config.file_pat: unknown key, ignored, did you mean file_path?",
            ],
        )

    def test_every_module(self) -> None:
        """Every name can be listed, with its settings left out, null or empty."""
        for name in NAMES.keys() - {"iii-exec"}:
            for config in ("", "config: ", "config: {}"):
                read(f"workers: [{{name: {name}, {config}}}]")
        found = blocks(read("workers: [{name: iii-exec, config: {exec: [a, b]}}]"))
        self.assertEqual(found["iii-exec"], ExecSettings(exec=("a", "b")))

    def test_sdk_fixture(self) -> None:
        """The keys which the test fixtures of the SDKs use are accepted; of those that do nothing yet, one warning."""
        text = """
            workers:
              - name: iii-worker-manager
                config: {port: 49199}
              - name: iii-http
                config:
                  host: 127.0.0.1
                  port: ${P:3199}
                  cors: {allowed_origins: ["*"], allowed_methods: [GET, POST]}
              - name: iii-state
                config: {adapter: {name: kv, config: {store_method: in_memory}}}
              - name: iii-observability
                config:
                  enabled: ${OTEL_ENABLED:true}
                  exporter: ${OTEL_EXPORTER_TYPE:memory}
                  sampling_ratio: 1.0
                  memory_max_spans: ${OTEL_MEMORY_MAX_SPANS:10000}
              - name: iii-http-functions
                config: {security: {url_allowlist: [localhost], block_private_ips: false, require_https: false}}
            """
        (warning,) = read(text).warnings
        self.assertEqual(
            warning,
            "c.yaml:13: iii-observability: config: without effect in this version: exporter, sampling_ratio, "
            "memory_max_spans",
        )

    def test_sdk_access(self) -> None:
        """Their access rules are understood, though this version refuses a file that has them."""
        text = """
            workers:
              - name: iii-worker-manager
                config:
                  port: 49135
                  middleware_function_id: test::rbac-worker::middleware
                  rbac:
                    auth_function_id: test::rbac-worker::auth
                    expose_functions:
                      - match("engine::*")
                      - match: "test::ew::*"
                      - metadata: {ew: true, name: match("a*")}
            """
        problems = self.assertRaises(ConfigError, read, text).problems
        self.assertEqual([problem.split(":")[1] for problem in problems], ["6", "7"])
        report = Report("c.yaml", {})
        rules = Reader(report, strict=True).read(Rbac, {"auth_function_id": "f", "x": 1}, Place(name="rbac"))
        self.assertEqual(rules, Rbac(auth_function_id="f"))
        self.assertEqual(report.warnings[0].partition(". ")[0], "c.yaml: rbac.x: unknown key, ignored")
