"""Tests for the configuration of C{make run}."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from iii.config import Settings, from_text
from iii.config.blocks.listeners import HttpSettings, WorkerManagerSettings
from iii.config.blocks.observability import ObservabilitySettings
from iii.config.blocks.stores import StateSettings, StreamSettings
from iii.config.modules import LOG_KEYS
from iii.config.parts import Tls
from iii.config.settings import ApiSettings, EngineSettings
from iii.core.limits import Limits
from tests.config.test_legacy import blocks


class SampleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = (Path(__file__).parents[2] / "etc/iii/config.yaml").read_text()

    def read(self, text: str) -> Settings:
        return from_text(text, "config.yaml", {})

    def test_as_it_is(self) -> None:
        """It runs the listeners for workers, HTTP and streams, on loopback, with the defaults of everything."""
        settings = self.read(self.text)
        self.assertEqual(settings.engine, self.read("").engine)
        found = blocks(settings)
        self.assertEqual(found["iii-worker-manager"], WorkerManagerSettings())
        self.assertEqual(found["iii-http"], HttpSettings())
        self.assertEqual(found["iii-stream"], StreamSettings())
        self.assertEqual(settings.warnings, ())

    def test_defaults(self) -> None:
        """It shows every key of the engine and of these listeners, and the defaults that it shows are the defaults."""
        shown = re.sub(r"^( *)# (( *)[a-z_]+:.*)$", r"\1\2", self.text, flags=re.MULTILINE)
        settings = self.read(shown)
        tls = Tls(certificate=Path("/etc/iii/tls.crt"), key=Path("/etc/iii/tls.key"))
        default = self.read("engine: {tls: {certificate: /etc/iii/tls.crt, key: /etc/iii/tls.key}}").engine
        self.assertEqual(settings.engine, default)
        found = blocks(settings)
        self.assertEqual(found["iii-worker-manager"], replace(WorkerManagerSettings(), tls=tls))
        self.assertEqual(found["iii-http"], replace(HttpSettings(), tls=tls))
        self.assertEqual(found["iii-stream"], replace(StreamSettings(), tls=tls))
        self.assertEqual(settings.registration_namespace_grace_ms, 5000)
        self.assertEqual(found["iii-observability"], ObservabilitySettings())
        self.assertEqual(found["iii-state"], StateSettings())
        structs: list[type[Struct]] = [EngineSettings, ApiSettings, Limits]
        structs += [WorkerManagerSettings, HttpSettings, StateSettings, StreamSettings]
        for key in {key for struct in structs for key in struct.__struct_fields__} | set(LOG_KEYS):
            self.assertRegex(shown, rf"\n +{key}:")
