"""Any text is a configuration, or is refused in the way of this package."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iii.config import ConfigError, from_text

PIECES = """
workers:|modules:|engine:|port: 1|name: iii-http|name: queue|config:|class: m::StateModule|adapter:|queue_configs:|rbac:
tls:|limits:|{|}|[|]|, |: |- |? |  |    |${X:1}|${A}|#|'|"|&a |*a|!!int |---|%YAML 1.2|1|true|~|0.5
"""
KEYS = """
workers modules port engine name class config image adapter api tls rbac limits queue_configs expose_functions match
metadata cors alerts action type
"""


class PropertyTests(SynchronousTestCase):
    def check(self, text: str) -> None:
        try:
            from_text(text, "c.yaml", {"A": "x: 1"})
        except ConfigError as error:
            self.assertTrue(error.problems)

    @settings(deadline=None)
    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is a configuration or is refused with a L{ConfigError}; there is no third."""
        self.check(text)

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(["\n", "\t", *re.split(r"[|\n]", PIECES)])).map("".join))
    def test_any_pieces(self, text: str) -> None:
        """So is what is made of pieces of a configuration."""
        self.check(text)

    @settings(deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS.split()), inner),
        ),
        st.sampled_from(["%s", "{engine: %s}", "{workers: [{name: iii-queue, config: %s}]}", "{workers: [%s]}"]),
    )
    def test_any_values(self, value: object, frame: str) -> None:
        """So are values of any kinds, where settings are expected."""
        self.check(frame.replace("%s", flow(value)))


def flow(value: object) -> str:
    """Write a value as YAML in flow style."""
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
