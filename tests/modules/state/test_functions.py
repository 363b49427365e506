"""Tests for L{iii.modules.state.functions}."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Raw
from zope.interface.verify import verifyObject

from iii.core.functions import Caller
from iii.interfaces import IValues
from iii.modules.state.functions import NewValue, StateFunctions
from iii.modules.state.triggers import StateTriggers
from iii.storage.updates import OperationError, Updated
from tests.modules.state.case import StateTestCase


def nested(levels: int) -> Any:
    """Return a value with so many levels, of lists and objects in turn."""
    value: Any = "[[[{{{"
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def refused(name: str, detail: str) -> tuple[str, str]:
    return "deserialization_error", f"Failed to deserialize input for state::{name}: {detail}"


class FakeTests(StateTestCase):
    def test_fake(self) -> None:
        """The fake provides the interface."""
        verifyObject(IValues, self.values)


class SetTests(StateTestCase):
    def test_new(self) -> None:
        """A first value has no old one, which is null; the new one comes back."""
        self.assertEqual(
            self.answer("set", scope="users", key="u1", value={"n": 1}),
            {"result": {"old_value": None, "new_value": {"n": 1}}},
        )

    def test_replaced(self) -> None:
        """The next one comes back with the one that it replaces."""
        self.ask("set", scope="s", key="k", value=1)
        self.assertEqual(self.ask("set", scope="s", key="k", value=[2]), {"old_value": 1, "new_value": [2]})

    def test_as_it_came(self) -> None:
        """A value is kept as the text that it came as: big integers, -0, the order of members."""
        text = b'{"b": 12345678901234567890, "a":-0, "c":1.0}'
        self.worker.connection.received(
            b'{"type":"invokefunction","invocation_id":"0af76519-16cd-43dd-8448-eb211c80319c",'
            b'"function_id":"state::set","data":{"scope":"s","key":"k","value":%b}}' % text
        )
        self.assertEqual(self.successResultOf(self.values.get(("s",), "k")), text)

    def test_data(self) -> None:
        """C{data} is another name of C{value}."""
        self.ask("set", scope="s", key="k", data=[1])
        self.assertEqual(self.ask("get", scope="s", key="k"), [1])

    def test_both(self) -> None:
        """Both names together are an error, also with null; nothing is stored."""
        for value, data in ((1, 2), (None, 2), (1, None)):
            self.assertEqual(
                self.ask("set", scope="s", key="k", value=value, data=data), refused("set", "duplicate field `value`")
            )
        self.assertEqual(self.ask("list", scope="s"), [])

    def test_missing(self) -> None:
        """A missing value is an error; null is a value."""
        self.assertEqual(self.ask("set", scope="s", key="k"), refused("set", "missing field `value`"))
        self.assertEqual(self.ask("list", scope="s"), [])
        self.assertEqual(self.ask("set", scope="s", key="k", value=None), {"old_value": None, "new_value": None})
        self.assertEqual(self.ask("list", scope="s"), [None])

    def test_any_texts(self) -> None:
        """Any texts are scope and key, also empty ones."""
        for scope, key in (("", ""), ("a", ""), ("", "a"), ("a\x00b/*:%", "\U0001f642\u2028"), ("x" * 5000, "y")):
            self.ask("set", scope=scope, key=key, value=[scope, key])
            self.assertEqual(self.ask("get", scope=scope, key=key), [scope, key])

    def test_wrong_input(self) -> None:
        """Scope and key are texts and must be there; what else is there does not matter."""
        for name in ("set", "get", "delete", "update"):
            for data in ({"scope": 1, "key": "k"}, {"scope": "s"}, {"scope": "s", "key": None}):
                code, text = self.ask(name, **data, value=1, ops=[])
                self.assertEqual(code, "deserialization_error")
                self.assertTrue(text.startswith(f"Failed to deserialize input for state::{name}: "), text)

    def test_too_deep(self) -> None:
        """What is nested so deep that it would fit into no event is refused; brackets in texts do not count."""
        self.ask("set", scope="s", key="k", value=nested(120))
        self.assertEqual(
            self.ask("set", scope="s", key="k", value=nested(121)),
            ("VALUE_TOO_DEEP", "value is nested deeper than 120 levels"),
        )
        self.assertEqual(self.ask("get", scope="s", key="k"), nested(120))

    def test_after_its_commit(self) -> None:
        """It is answered when the store has answered."""
        self.values.held = []
        invocation_id = self.worker.call("state::set", {"scope": "s", "key": "k", "value": 1})
        self.assertEqual(self.worker.received("invocationresult"), [])
        self.values.held.pop()()
        self.assertEqual(self.worker.outcome(invocation_id), {"old_value": None, "new_value": 1})

    def test_void(self) -> None:
        """A void call is carried out and not answered."""
        self.worker.call("state::set", {"scope": "s", "key": "k", "value": 1}, action={"type": "void"})
        self.assertEqual(self.worker.received("invocationresult"), [])
        self.assertEqual(self.ask("get", scope="s", key="k"), 1)

    def test_failure(self) -> None:
        """What the store says against it is passed on, with a code."""
        self.fail_all()
        self.assertEqual(
            self.ask("set", scope="s", key="k", value=1), ("SET_ERROR", "Failed to set value: the disk is gone")
        )


class LimitedTests(StateTestCase):
    settings: ClassVar = {"max_value_bytes": 10}

    def test_limit(self) -> None:
        """The limit is for the compact text; the old value stays."""
        self.ask("set", scope="s", key="k", value="12345678")
        self.assertEqual(
            self.ask("set", scope="s", key="k", value="123456789"),
            ("VALUE_TOO_LARGE", "value of 11 bytes exceeds the configured max_value_bytes limit of 10"),
        )
        self.assertEqual(self.ask("get", scope="s", key="k"), "12345678")

    def test_compact(self) -> None:
        """Space between the parts of a value does not count."""
        functions = StateFunctions(self.values, StateTriggers(self.engine), 10)
        spacious = Raw(b"[1,  2,   3,    4 ]")
        done = functions.set(NewValue("s", "k", value=spacious), Caller())
        self.assertEqual(self.successResultOf(done).new_value, spacious)

    def test_update(self) -> None:
        """It holds for the result of an update too, with the same code."""
        self.values.updated = [Updated(b'"12345678"', b'"123456789"')]
        self.assertEqual(
            self.ask("update", scope="s", key="k", ops=[]),
            ("VALUE_TOO_LARGE", "value of 11 bytes exceeds the configured max_value_bytes limit of 10"),
        )


class GetTests(StateTestCase):
    def test_absent(self) -> None:
        """Of what is not there, there is no result."""
        self.assertEqual(self.answer("get", scope="s", key="k"), {})

    def test_null(self) -> None:
        """A stored null is a result."""
        self.ask("set", scope="s", key="k", value=None)
        self.assertEqual(self.answer("get", scope="s", key="k"), {"result": None})

    def test_failure(self) -> None:
        """Like that of a set."""
        self.fail_all()
        self.assertEqual(self.ask("get", scope="s", key="k"), ("GET_ERROR", "Failed to get value: the disk is gone"))


class DeleteTests(StateTestCase):
    def test_present(self) -> None:
        """The value itself comes back, and is gone."""
        self.ask("set", scope="s", key="k", value={"n": 1})
        self.assertEqual(self.answer("delete", scope="s", key="k"), {"result": {"n": 1}})
        self.assertEqual(self.answer("get", scope="s", key="k"), {})

    def test_absent(self) -> None:
        """To delete what is not there succeeds without a result."""
        self.assertEqual(self.answer("delete", scope="s", key="k"), {})

    def test_null(self) -> None:
        """A stored null is a result."""
        self.ask("set", scope="s", key="k", value=None)
        self.assertEqual(self.answer("delete", scope="s", key="k"), {"result": None})

    def test_failure(self) -> None:
        """Like that of a set."""
        self.fail_all()
        self.assertEqual(
            self.ask("delete", scope="s", key="k"), ("DELETE_ERROR", "Failed to delete value: the disk is gone")
        )


class UpdateTests(StateTestCase):
    def test_result(self) -> None:
        """The values before and after; errors are left out when there are none."""
        self.values.updated = [Updated(None, b'{"n":1}'), Updated(b'{"n":1}', b'{"n":2}')]
        self.assertEqual(
            self.answer("update", scope="s", key="k", ops=[]),
            {"result": {"old_value": None, "new_value": {"n": 1}}},
        )
        self.assertEqual(
            self.answer("update", scope="s", key="k", ops=[]),
            {"result": {"old_value": {"n": 1}, "new_value": {"n": 2}}},
        )

    def test_errors(self) -> None:
        """What was left out is told with all its members; the call succeeds."""
        error = OperationError(0, "increment.not_number", "Expected number", "https://iii.dev/docs")
        self.values.updated = [Updated(b"1", b"1", (error,))]
        self.assertEqual(
            self.ask("update", scope="s", key="k", ops=[])["errors"],
            [
                {
                    "op_index": 0,
                    "code": "increment.not_number",
                    "message": "Expected number",
                    "doc_url": "https://iii.dev/docs",
                }
            ],
        )

    def test_no_operations(self) -> None:
        """The operations must be a list, which may be empty."""
        for ops in (None, {}, "x"):
            code, _ = self.ask("update", scope="s", key="k", ops=ops)
            self.assertEqual(code, "deserialization_error")

    def test_failure(self) -> None:
        """Like that of a set."""
        self.values.updated = [Updated(None, b"1")]
        self.fail_all()
        self.assertEqual(
            self.ask("update", scope="s", key="k", ops=[]),
            ("UPDATE_ERROR", "Failed to update value: the disk is gone"),
        )


class ListTests(StateTestCase):
    def fill(self, *keys: str) -> None:
        for key in keys:
            self.ask("set", scope="s", key=key, value=f"of {key}")

    def test_values(self) -> None:
        """The values of a scope and of no other, in the order in which their keys were first set."""
        self.fill("b", "a", "c")
        self.ask("set", scope="s", key="b", value=None)
        self.ask("set", scope="other", key="k", value=1)
        self.assertEqual(self.ask("list", scope="s"), [None, "of a", "of c"])

    def test_unknown(self) -> None:
        """An unknown scope is an empty one."""
        self.assertEqual(self.answer("list", scope="s"), {"result": []})

    def test_keys(self) -> None:
        """With C{include_keys} each value comes with its key."""
        self.fill("b", 'a"')
        expected = [{"key": "b", "value": "of b"}, {"key": 'a"', "value": 'of a"'}]
        self.assertEqual(self.ask("list", scope="s", include_keys=True), expected)
        self.assertEqual(self.ask("list", scope="s", include_keys=False), ["of b", 'of a"'])
        self.assertEqual(self.ask("list", scope="s", include_keys=None), ["of b", 'of a"'])

    def pages(self, **more: Any) -> list[list[str]]:
        """The keys of all pages of two."""
        found: list[list[str]] = []
        after = {}
        while page := self.ask("list", scope="s", include_keys=True, limit=2, **after, **more):
            found.append([entry["key"] for entry in page])
            after = {"after": found[-1][-1]}
        return found

    def test_pages(self) -> None:
        """Pages come in the order of their keys, each from the last key of the one before, which may be gone."""
        self.fill("b", "ä", "", "a", "Z")
        self.assertEqual(self.pages(), [["", "Z"], ["a", "b"], ["ä"]])
        self.ask("delete", scope="s", key="Z")
        self.assertEqual(self.ask("list", scope="s", after="Z", limit=1), ["of a"])
        self.assertEqual(self.ask("list", scope="s", limit=9), ["of ", "of a", "of b", "of ä"])
        self.assertEqual(self.ask("list", scope="s", after=""), ["of a", "of b", "of ä"])

    def test_prefix(self) -> None:
        """Keys that begin so, in the order in which they were first set, or in pages."""
        self.fill("user:2", "user:1", "use", "user:", "order:1", "user:3")
        self.assertEqual(
            self.ask("list", scope="s", prefix="user:"), ["of user:2", "of user:1", "of user:", "of user:3"]
        )
        self.assertEqual(self.pages(prefix="user:"), [["user:", "user:1"], ["user:2", "user:3"]])
        self.assertEqual(len(self.ask("list", scope="s", prefix="")), 6)

    def test_wrong_page(self) -> None:
        """A page has at least one value."""
        for limit in (0, -1, 1.5, "1"):
            code, _ = self.ask("list", scope="s", limit=limit)
            self.assertEqual(code, "deserialization_error")

    def test_failure(self) -> None:
        """Like that of a set."""
        self.fail_all()
        self.assertEqual(self.ask("list", scope="s"), ("LIST_ERROR", "Failed to list values: the disk is gone"))


class ListGroupsTests(StateTestCase):
    def test_groups(self) -> None:
        """The scopes that have values, sorted by code point."""
        for scope in ("b", "Z", "ä", "", "\U0001f642", "\uffff"):
            self.ask("set", scope=scope, key="k", value=1)
        self.assertEqual(
            self.answer("list_groups"), {"result": {"groups": ["", "Z", "b", "ä", "\uffff", "\U0001f642"]}}
        )

    def test_emptied(self) -> None:
        """A scope whose last value was deleted is not one of them."""
        self.ask("set", scope="s", key="k", value=1)
        self.ask("delete", scope="s", key="k")
        self.assertEqual(self.ask("list_groups"), {"groups": []})

    def test_failure(self) -> None:
        """Like that of a set."""
        self.fail_all()
        self.assertEqual(self.ask("list_groups"), ("LIST_GROUPS_ERROR", "Failed to list groups: the disk is gone"))
