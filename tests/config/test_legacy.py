"""Tests for L{iii.config.legacy}: files of versions 0.2 to 0.10, and old names in newer ones."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase

from iii.config import ConfigError, Settings, from_text
from iii.config.blocks.listeners import HttpSettings, WorkerManagerSettings
from iii.config.blocks.observability import ObservabilitySettings
from iii.config.blocks.outside import BridgeSettings
from iii.config.blocks.stores import KvAdapter, StateSettings, Store


def blocks(settings: Settings) -> dict[str, Struct]:
    """Return the blocks of all modules, also of those that are not available, by the names of their entries."""
    return {entry.name: entry.settings for entry in (*settings.modules, *settings.unavailable)}


class LegacyTests(SynchronousTestCase):
    def read(self, text: str) -> Settings:
        return from_text(text, "c.yaml", {})

    def refused(self, text: str) -> str:
        return str(self.assertRaises(ConfigError, self.read, text))

    def test_file(self) -> None:
        """A file in the old dialect has the meaning of one in the current dialect."""
        settings = self.read(
            "port: 4000\n"
            "modules:\n"
            "  - class: modules::state::StateModule\n"
            "    config:\n"
            "      adapter:\n"
            "        class: modules::state::adapters::KvStore\n"
            "        config: {store_method: in_memory, file_path: /d}\n"
            "  - class: modules::rest_api::RestApiModule\n"
            "    config: {port: 80}\n"
        )
        found = blocks(settings)
        store = Store(store_method="in_memory", file_path=Path("/d"))
        self.assertEqual(found["iii-state"], StateSettings(adapter=KvAdapter(config=store)))
        self.assertEqual(found["iii-http"], HttpSettings(port=80))
        self.assertEqual(found["iii-worker-manager"], WorkerManagerSettings(port=4000))
        self.assertEqual(settings.warnings, ())

    def test_modules(self) -> None:
        """Every class of old files has its successor, whatever stands before its last part."""
        for class_, name in {
            "modules::api::RestApiModule": "iii-http",
            "modules::stream::StreamModule": "iii-stream",
            "modules::streams::StreamModule": "iii-stream",
            "modules::queue::QueueModule": "iii-queue",
            "modules::event::EventModule": "iii-queue",
            "modules::pubsub::PubSubModule": "iii-pubsub",
            "modules::cron::CronModule": "iii-cron",
            "modules::observability::OtelModule": "iii-observability",
            "modules::observability::LoggingModule": "iii-observability",
            "modules::http_functions::HttpFunctionsModule": "iii-http-functions",
            "modules::bridge_client::BridgeClientModule": "iii-bridge",
            "modules::worker::WorkerModule": "iii-worker-manager",
            "modules::core_engine::WorkerModule": "iii-worker-manager",
        }.items():
            settings = self.read(f"modules: [{{class: '{class_}', config: {{unknown: 1}}}}]")
            self.assertIn(f" {name}: config.unknown: unknown key, ignored", settings.warnings[0])

    def test_adapters(self) -> None:
        """Every class of adapters has its successor."""
        for module, class_, name in (
            ("stream::StreamModule", "modules::streams::adapters::RedisAdapter", "redis"),
            ("stream::StreamModule", "modules::stream::adapters::KvStore", "kv"),
            ("pubsub::PubSubModule", "modules::pubsub::LocalAdapter", "local"),
            ("queue::QueueModule", "modules::queue::BuiltinQueueAdapter", "builtin"),
            ("event::EventModule", "modules::event::RabbitMQAdapter", "rabbitmq"),
            ("cron::CronModule", "modules::cron::KvCronAdapter", "kv"),
            ("cron::CronModule", "modules::cron::adapters::RedisCronAdapter", "redis"),
        ):
            block = f"{{adapter: {{class: '{class_}'}}}}"
            text = f"modules: [{{class: 'modules::{module}', config: {block}}}]"
            try:
                found = blocks(self.read(text))
            except ConfigError as error:  # this version may not have it yet
                self.assertIn(f'config.adapter.name: "{name}" is not available yet', str(error))
                continue
            tags = [block.adapter.__struct_config__.tag for block in found.values() if hasattr(block, "adapter")]
            self.assertIn(name, tags)

    def test_tolerance(self) -> None:
        """Unknown keys are ignored with a warning, wherever they are."""
        settings = self.read(
            "colour: red\n"
            "modules:\n"
            "  - class: modules::api::RestApiModule\n"
            "    x: 1\n"
            "    config: {body_limit: 3}\n"
            "  - class: modules::observability::LoggingModule\n"
            "    config: {level: debug, adapter: {class: 'modules::observability::adapters::FileLogger'}}\n"
        )
        self.assertEqual(
            [warning.partition(". Known")[0] for warning in settings.warnings],
            [
                "c.yaml:1: colour: unknown key, ignored",
                "c.yaml:4: modules[0].x: unknown key, ignored",
                "c.yaml:5: iii-http: config.body_limit: unknown key, ignored",
                "c.yaml:7: iii-observability: config.adapter: unknown key, ignored",
            ],
        )

    def test_old_by_port(self) -> None:
        """The old key C{port} alone makes a file one of the old dialect."""
        (warning,) = self.read("port: 1\ncolour: red").warnings
        self.assertTrue(warning.startswith("c.yaml:2: colour: unknown key, ignored"))

    def test_port(self) -> None:
        """The old key C{port} is for the first listener that names none; 0 is the usual port."""
        self.assertEqual(blocks(self.read("port: 0"))["iii-worker-manager"], WorkerManagerSettings())
        found = blocks(self.read("port: 5\nworkers: [name: iii-worker-manager, name: iii-worker-manager]"))
        self.assertEqual(found["iii-worker-manager"], WorkerManagerSettings(port=5))
        self.assertEqual(found["iii-worker-manager#1"], WorkerManagerSettings())
        text = "port: 5\nworkers: [{name: iii-worker-manager, config: {port: 6}}]"
        self.assertEqual(blocks(self.read(text))["iii-worker-manager"], WorkerManagerSettings(port=6))

    def test_removed(self) -> None:
        """A module that no longer exists is left out with a warning."""
        settings = self.read("modules:\n  - class: modules::kv_server::KvServer\n    config: {x: 1}")
        self.assertEqual(
            settings.warnings, ("c.yaml:2: modules[0].class: KvServer does not exist any more; the entry is ignored",)
        )

    def test_unknown_class(self) -> None:
        """A class that never existed is refused with the nearest one."""
        for class_, hint in (("modules::state::StatModule", ", did you mean StateModule?"), ("", "."), ("[]", ".")):
            problem = self.refused(f"modules:\n  - class: {class_}")
            expected = f"c.yaml:2: modules[0].class: unknown module class{hint} Known are BridgeClientModule, "
            self.assertTrue(problem.startswith(expected), problem)

    def test_unknown_adapter(self) -> None:
        """An adapter class that never existed is refused with the names there are."""
        text = "modules:\n- class: m::CronModule\n  config: {adapter: {class: m::FooAdapter}}"
        self.assertEqual(
            self.refused(text),
            'c.yaml:3: iii-cron: config.adapter.name: expected one of kv, redis, got "m::FooAdapter"',
        )

    def test_name_and_class(self) -> None:
        """An entry may have both, if they agree."""
        text = "modules: [{class: m::CronModule, name: iii-%s}]"
        self.assertIn("iii-cron", blocks(self.read(text % "cron")))
        self.assertEqual(
            self.refused(text % "http"),
            "c.yaml:1: modules[0].class: this is the old name of iii-cron, but name says otherwise",
        )

    def test_old_keys(self) -> None:
        """C{log_level} is the old name of C{level}, in both dialects."""
        text = "workers: [{name: iii-observability, config: {log_level: debug%s}}]"
        self.assertEqual(blocks(self.read(text % ""))["iii-observability"], ObservabilitySettings(level="debug"))
        self.assertEqual(
            self.refused(text % ", level: info"),
            "c.yaml:1: workers[0].config.log_level: this is the old name of level, which is given as well",
        )

    def test_bridge(self) -> None:
        """The keys of old examples are accepted."""
        text = "modules: [{class: m::BridgeClientModule, config: {service_id: a, service_name: b}}]"
        self.assertEqual(blocks(self.read(text))["iii-bridge"], BridgeSettings(service_id="a", service_name="b"))
