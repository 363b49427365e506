"""Tests for L{iii.storage.updates}."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iii.storage.errors import StorageError
from iii.storage.updates import DEEPEST, Operation, Updated, apply
from tests.storage import update_oracle

DOC_URL = "https://iii.dev/docs/workers/iii-state#error-codes"
_decode = msgspec.json.Decoder(list[Operation]).decode
LONG = "é" * 150


def update(old: str | None, operations: str) -> Updated:
    return apply(None if old is None else old.encode(), _decode(operations))


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


class ShapesTests(SynchronousTestCase):
    """spec/state.md, 4.1"""

    def test_accepted(self) -> None:
        """The shapes of the table, with unknown fields beside them, and the tag anywhere."""
        for operation in (
            '{"type":"set","path":""}',
            '{"type":"set","path":"a","value":null}',
            '{"value":{},"path":["a","b"],"type":"merge"}',
            '{"type":"merge","value":1}',
            '{"type":"merge","path":null,"value":1,"other":[]}',
            '{"type":"append","path":[],"value":1}',
            '{"type":"append","path":"","value":1}',
            '{"type":"increment","path":"","by":-9223372036854775808}',
            '{"type":"decrement","path":"","by":9223372036854775807}',
            '{"type":"remove","path":""}',
        ):
            _decode(f"[{operation}]")

    def test_refused(self) -> None:
        """Any other shape is refused as a whole."""
        for operation in (
            '{"type":"x","path":""}',
            '{"path":""}',
            "[]",
            "null",
            '{"type":"set","value":1}',
            '{"type":"set","path":["a"],"value":1}',
            '{"type":"set","path":null,"value":1}',
            '{"type":"merge","path":""}',
            '{"type":"merge","path":[1],"value":1}',
            '{"type":"append","path":1,"value":1}',
            '{"type":"append","path":"a"}',
            '{"type":"increment","path":"a"}',
            '{"type":"increment","by":1}',
            '{"type":"increment","path":["a"],"by":1}',
            '{"type":"increment","path":"a","by":1.0}',
            '{"type":"increment","path":"a","by":1.5}',
            '{"type":"increment","path":"a","by":"1"}',
            '{"type":"increment","path":"a","by":null}',
            '{"type":"increment","path":"a","by":9223372036854775808}',
            '{"type":"decrement","path":"a","by":-9223372036854775809}',
            '{"type":"remove"}',
        ):
            self.assertRaises(msgspec.ValidationError, _decode, f"[{operation}]")

    def test_schema(self) -> None:
        """The operations have a JSON schema."""
        schema = json.dumps(msgspec.json.schema(list[Operation]))
        for name in ("set", "merge", "increment", "decrement", "append", "remove"):
            self.assertIn(f'"{name}"', schema)


class EvaluationTests(SynchronousTestCase):
    """spec/state.md, 4.2"""

    def becomes(self, old: str | None, operations: str, new: str) -> None:
        """Operations without their brackets apply, each of them, and give exactly this text."""
        updated = update(old, f"[{operations}]")
        self.assertEqual((updated.new.decode(), updated.errors), (new, []), (old, operations))
        self.assertEqual(updated.old, None if old is None else old.encode())

    def fails(self, old: str | None, operation: str, code: str, message: str) -> None:
        """An operation fails so, and leaves the value as it was."""
        updated = update(old, f"[{operation}]")
        found = [(error.op_index, error.code, error.message, error.doc_url) for error in updated.errors]
        self.assertEqual(found, [(0, code, message, DOC_URL)], (old, operation))
        self.assertEqual(updated.new.decode(), old or "{}")

    def test_nothing(self) -> None:
        """No operations leave the value; what was absent becomes an object."""
        self.becomes(None, "", "{}")
        self.becomes('{"a": 1}', "", '{"a": 1}')
        self.becomes("null", "", "null")

    def test_set(self) -> None:
        """Set replaces the root, or puts a field, at the end when it is new."""
        self.becomes(None, '{"type":"set","path":"","value":[1]}', "[1]")
        self.becomes("5", '{"type":"set","path":"","value":{"a":1}}', '{"a":1}')
        self.becomes('{"a":1}', '{"type":"set","path":""}', "null")
        self.becomes(None, '{"type":"set","path":"a.b","value":1}', '{"a.b":1}')
        self.becomes(
            '{"b":1,"a":2}',
            '{"type":"set","path":"b"},{"type":"set","path":"0","value":"é"}',
            '{"b":null,"a":2,"0":"é"}',
        )
        for old, kind in (("null", "null"), ("[1]", "array"), ("true", "boolean"), ("-1", "number"), ('""', "string")):
            self.fails(
                old,
                '{"type":"set","path":"a","value":1}',
                "set.target_not_object",
                f"Cannot set at path 'a': target is {kind}, expected object.",
            )

    def test_merge_root(self) -> None:
        """A merge at the root puts fields into an object, one level deep, and does nothing to anything else."""
        for path in ("", '"path":"",', '"path":null,', '"path":[],'):
            self.becomes(
                '{"a":{"x":1},"b":2}',
                f'{{"type":"merge",{path}"value":{{"a":{{"y":1}},"c":3}}}}',
                '{"a":{"y":1},"b":2,"c":3}',
            )
        self.becomes(None, '{"type":"merge","value":{"a":1}}', '{"a":1}')
        for old in ("null", "[]", "1", '"x"', "false"):
            self.becomes(old, '{"type":"merge","value":{"a":1}}', old)

    def test_merge_path(self) -> None:
        """A merge at a path makes an object of whatever is no object on the way."""
        merge = '{"type":"merge","path":"p","value":{"a":1}}'
        for old in (None, "{}", '{"p":null}', '{"p":[1]}', '{"p":"x"}', "[1]", "null", "7"):
            self.becomes(old, merge, '{"p":{"a":1}}')
        self.becomes('{"p":{"a":0,"b":2}}', merge, '{"p":{"a":1,"b":2}}')
        self.becomes(
            '{"p":{"q":[1],"r":5}}',
            '{"type":"merge","path":["p","q","0"],"value":{"a":1}}',
            '{"p":{"q":{"0":{"a":1}},"r":5}}',
        )
        self.becomes('{"p":{"q":{"r":5}}}', '{"type":"merge","path":["p","q"],"value":{}}', '{"p":{"q":{"r":5}}}')

    def test_increment_root(self) -> None:
        """At the root what is absent counts from zero, a number is added to, anything else fails."""
        self.becomes(None, '{"type":"increment","path":"","by":3}', "3")
        self.becomes(None, '{"type":"decrement","path":"","by":3}', "-3")
        self.becomes("4", '{"type":"increment","path":"","by":3}', "7")
        self.becomes("4", '{"type":"decrement","path":"","by":5}', "-1")
        for old, kind in (("{}", "object"), ("null", "null"), ("[]", "array"), ('"1"', "string"), ("true", "boolean")):
            for name in ("increment", "decrement"):
                self.fails(
                    old,
                    f'{{"type":"{name}","path":"","by":1}}',
                    f"{name}.not_number",
                    f"Expected number at path 'root', got {kind}.",
                )

    def test_increment_field(self) -> None:
        """A missing field counts from zero, a number is added to, anything else fails, null too."""
        self.becomes(None, '{"type":"increment","path":"n","by":3}', '{"n":3}')
        self.becomes("{}", '{"type":"decrement","path":"n","by":3}', '{"n":-3}')
        self.becomes('{"n":1,"m":2}', '{"type":"increment","path":"n","by":-3}', '{"n":-2,"m":2}')
        for value, kind in (
            ("{}", "object"),
            ("null", "null"),
            ("[]", "array"),
            ('"1"', "string"),
            ("true", "boolean"),
        ):
            for name in ("increment", "decrement"):
                self.fails(
                    f'{{"n":{value}}}',
                    f'{{"type":"{name}","path":"n","by":1}}',
                    f"{name}.not_number",
                    f"Expected number at path 'n', got {kind}.",
                )
        for name in ("increment", "decrement"):
            self.fails(
                "[1]",
                f'{{"type":"{name}","path":"n","by":1}}',
                f"{name}.target_not_object",
                f"Cannot {name} at path 'n': target is array, expected object.",
            )

    def test_integers(self) -> None:
        """Integers are exact from -2^63 to 2^64-1; beyond, the operation fails."""
        for old, name, by, new in (
            (2**53, "increment", 1, 2**53 + 1),
            (2**63 - 1, "increment", 1, 2**63),
            (2**64 - 2, "increment", 1, 2**64 - 1),
            (2**64 - 1, "decrement", 2**63 - 1, 2**63),
            (-(2**63) + 1, "decrement", 1, -(2**63)),
            (0, "decrement", -(2**63), 2**63),
            (10**25, "decrement", 1, None),
            (2**64 + 1, "decrement", 2, 2**64 - 1),
            (2**64 - 1, "increment", 1, None),
            (-(2**63), "decrement", 1, None),
        ):
            operation = f'{{"type":"{name}","path":"n","by":{by}}}'
            if new is not None:
                self.becomes(f'{{"n":{old}}}', operation, f'{{"n":{new}}}')
            else:
                self.fails(
                    f'{{"n":{old}}}', operation, f"{name}.not_number", "Expected number at path 'n', got number."
                )
        self.becomes("{}", '{"type":"decrement","path":"n","by":-9223372036854775808}', '{"n":9223372036854775808}')

    def test_floats(self) -> None:
        """A float stays one; beyond the doubles the operation fails."""
        for old, new in (
            ("1.0", "3.0"),
            ("1e3", "1002.0"),
            ("-0", "2.0"),
            ("-0.0", "2.0"),
            ("0.5", "2.5"),
            ("1e300", "1e300"),
        ):
            self.becomes(old, '{"type":"increment","path":"","by":2}', new)
        for old in ("1e400", "-1e400", "1" * 5000):
            self.fails(
                old,
                '{"type":"increment","path":"","by":2}',
                "increment.not_number",
                "Expected number at path 'root', got number.",
            )

    def test_append_root(self) -> None:
        """At the root: a text alone stays one, an array gets an element, a text its end."""
        for old in (None, "null"):
            self.becomes(old, '{"type":"append","value":"x"}', '"x"')
            self.becomes(old, '{"type":"append","value":1}', "[1]")
            self.becomes(old, '{"type":"append","value":[1]}', "[[1]]")
            self.becomes(old, '{"type":"append","value":null}', "[null]")
        for empty in ("[]", "[ \n]"):
            self.becomes(empty, '{"type":"append","path":[],"value":[1,2]}', "[[1,2]]")
        self.becomes(
            "[1, 2 ]", '{"type":"append","path":"","value":"x"},{"type":"append","value":{}}', '[1, 2 ,"x",{}]'
        )
        self.becomes('"a"', '{"type":"append","value":"\\u00e9\\""},{"type":"append","value":""}', '"a\\u00e9\\""')
        self.becomes('""', '{"type":"append","value":"x"}', '"x"')
        self.fails(
            '"a"',
            '{"type":"append","value":[]}',
            "append.type_mismatch",
            "Expected string append value at path 'root', got array.",
        )
        for old, kind in (("{}", "object"), ("1", "number"), ("true", "boolean")):
            self.fails(
                old,
                '{"type":"append","value":"x"}',
                "append.type_mismatch",
                f"Cannot append at path 'root': target is {kind}, expected array, string, null, or missing field.",
            )

    def test_append_field(self) -> None:
        """In a field: as at the root; a path of one key is the key."""
        for path in ('"f"', '["f"]'):
            for old in (None, "{}", '{"f":null}'):
                self.becomes(old, f'{{"type":"append","path":{path},"value":"x"}}', '{"f":"x"}')
                self.becomes(old, f'{{"type":"append","path":{path},"value":[1]}}', '{"f":[[1]]}')
            self.becomes('{"f":[1]}', f'{{"type":"append","path":{path},"value":"x"}}', '{"f":[1,"x"]}')
            self.becomes('{"f":"a"}', f'{{"type":"append","path":{path},"value":"x"}}', '{"f":"ax"}')
            self.fails(
                '{"f":"a"}',
                f'{{"type":"append","path":{path},"value":null}}',
                "append.type_mismatch",
                "Expected string append value at path 'f', got null.",
            )
            self.fails(
                '{"f":{}}',
                f'{{"type":"append","path":{path},"value":1}}',
                "append.type_mismatch",
                "Cannot append at path 'f': target is object, expected array, string, null, or missing field.",
            )
            self.fails(
                "null",
                f'{{"type":"append","path":{path},"value":1}}',
                "append.target_not_object",
                "Cannot append at path '[f]': target is null, expected object.",
            )

    def test_append_nested(self) -> None:
        """At a nested path: steps are made, and a missing or null leaf always becomes an array."""
        append = '{"type":"append","path":["a","b","c"],"value":"x"}'
        for old in (None, "{}", '{"a":[1]}', '{"a":{"b":7}}', '{"a":{"b":{"c":null}}}'):
            self.becomes(old, append, '{"a":{"b":{"c":["x"]}}}')
        self.becomes('{"a":{"b":{"c":"y"},"d":0}}', append, '{"a":{"b":{"c":"yx"},"d":0}}')
        self.becomes('{"a":{"b":{"c":["y"]}}}', append, '{"a":{"b":{"c":["y","x"]}}}')
        self.fails(
            '{"a":{"b":{"c":1}}}',
            append,
            "append.type_mismatch",
            "Cannot append at path 'c': target is number, expected array, string, null, or missing field.",
        )
        self.fails(
            "[]",
            append,
            "append.target_not_object",
            "Cannot append at path '[a, b, c]': target is array, expected object.",
        )

    def test_remove(self) -> None:
        """Remove drops a field, or nothing; at the root the value becomes null."""
        self.becomes('{"a":1,"b":2}', '{"type":"remove","path":"a"}', '{"b":2}')
        self.becomes('{"a":1}', '{"type":"remove","path":"b"}', '{"a":1}')
        self.becomes('{"a":1}', '{"type":"remove","path":""}', "null")
        self.becomes(None, '{"type":"remove","path":""}', "null")
        self.fails(
            "1",
            '{"type":"remove","path":"a"}',
            "remove.target_not_object",
            "Cannot remove at path 'a': target is number, expected object.",
        )

    def test_absence(self) -> None:
        """An operation that applied, also a remove that found nothing, makes the value present; a failed one not."""
        add = '{"type":"increment","path":"","by":1}'
        updated = update(None, f'[{{"type":"merge","value":1}},{add}]')
        self.assertEqual((updated.new, [error.op_index for error in updated.errors]), (b"1", [0]))
        for applied in ('{"type":"remove","path":"a"}', '{"type":"merge","value":{}}'):
            updated = update(None, f"[{applied},{add}]")
            self.assertEqual((updated.new, updated.errors[0].code), (b"{}", "increment.not_number"))

    def test_order(self) -> None:
        """Each operation sees what those before have done; one that fails is left out alone."""
        updated = update(
            '{"n":1}',
            '[{"type":"set","path":"l","value":[]},{"type":"increment","path":"l","by":1},'
            '{"type":"append","path":"l","value":1},{"type":"append","path":"l","value":2},'
            '{"type":"merge","path":"m","value":{"s":"a"}},{"type":"append","path":["m","s"],"value":"b"},'
            '{"type":"append","path":["m","s"],"value":"c"},{"type":"increment","path":"m","by":1},'
            '{"type":"set","path":"o","value":{"x":[1]}},{"type":"append","path":["o","x"],"value":2}]',
        )
        self.assertEqual(updated.new, b'{"n":1,"l":[1,2],"m":{"s":"abc"},"o":{"x":[1,2]}}')
        self.assertEqual(
            [(error.op_index, error.message) for error in updated.errors],
            [
                (1, "Expected number at path 'l', got array."),
                (7, "Expected number at path 'm', got object."),
            ],
        )

    def test_untouched(self) -> None:
        """What no operation touches comes back as it came: large and long numbers, empty arrays, spaces, order."""
        numbers = '"big":123456789012345678901234567890,"far":1e400,"long":0.1234567890123456789'
        inner = f'{{{numbers},"e":[ ],"o":{{"b":1,"a":2,"a":3}}}}'
        self.becomes(
            f'{{"z":{inner},"a":1e999,"n":1}}',
            '{"type":"increment","path":"n","by":1}',
            f'{{"z":{inner},"a":1e999,"n":2}}',
        )
        self.becomes(
            f'{{"z":{{{numbers},"o":{{}}}}}}',
            '{"type":"merge","path":["z","o"],"value":{"c":1e400}}',
            f'{{"z":{{{numbers},"o":{{"c":1e400}}}}}}',
        )

    def test_any_keys(self) -> None:
        """Any text is a key."""
        for key in ("", "\0", '"', "\\", "\ud7ff\U0001f600", "a" * 300, "__proto__"):
            text = json.dumps({key: [], "n": 1})
            self.assertEqual(
                json.loads(update(text, '[{"type":"increment","path":"n","by":1}]').new), {key: [], "n": 2}
            )


class LimitsTests(SynchronousTestCase):
    """spec/state.md, 4.3"""

    def fails(self, operation: dict[str, Any], code: str, message: str) -> None:
        updated = update('{"a":1}', json.dumps([operation]))
        self.assertEqual([(error.code, error.message) for error in updated.errors], [(code, message)], operation)
        self.assertEqual(updated.new, b'{"a":1}')

    def applies(self, operation: dict[str, Any]) -> None:
        self.assertEqual(update('{"a":1}', json.dumps([operation])).errors, [])

    def test_depth_of_path(self) -> None:
        """A path has at most 32 segments."""
        for kind in ("merge", "append"):
            self.applies({"type": kind, "path": ["x"] * 32, "value": {}})
            self.fails(
                {"type": kind, "path": ["x"] * 33, "value": {}},
                f"{kind}.path.too_deep",
                "Path depth 33 exceeds maximum of 32",
            )

    def test_empty_segment(self) -> None:
        """No segment is empty."""
        for kind in ("merge", "append"):
            for path in ([""], ["a", ""], ["", "a"]):
                self.fails(
                    {"type": kind, "path": path, "value": {}},
                    f"{kind}.path.empty_segment",
                    "Path contains an empty segment",
                )

    def test_length_of_segment(self) -> None:
        """A segment has at most 256 bytes, also where it is the whole path."""
        for kind, rest in (
            ("set", {"value": 1}),
            ("remove", {}),
            ("increment", {"by": 1}),
            ("decrement", {"by": 1}),
            ("merge", {"value": {}}),
            ("append", {"value": 1}),
        ):
            self.applies({"type": kind, "path": "é" * 128, **rest})
            self.fails(
                {"type": kind, "path": LONG, **rest},
                f"{kind}.path.segment_too_long",
                "Path segment of 300 bytes exceeds maximum of 256",
            )
            for sink in ("__proto__", "constructor", "prototype"):
                self.fails(
                    {"type": kind, "path": sink, **rest},
                    f"{kind}.path.proto_polluted",
                    f"Path segment '{sink}' is not allowed (prototype pollution).",
                )

    def test_order(self) -> None:
        """The path counts before the value, its length before its segments, and of these the first that is wrong."""
        self.fails(
            {"type": "merge", "path": [""] * 33, "value": 1},
            "merge.path.too_deep",
            "Path depth 33 exceeds maximum of 32",
        )
        self.fails(
            {"type": "merge", "path": ["__proto__", ""], "value": 1},
            "merge.path.proto_polluted",
            "Path segment '__proto__' is not allowed (prototype pollution).",
        )
        self.fails(
            {"type": "merge", "path": [LONG, "__proto__"], "value": 1},
            "merge.path.segment_too_long",
            "Path segment of 300 bytes exceeds maximum of 256",
        )
        many = {"__proto__": 1, **{str(number): 1 for number in range(1024)}}
        self.fails(
            {"type": "merge", "value": many},
            "merge.value.too_many_keys",
            "Merge value has 1025 top-level keys, exceeds maximum of 1024",
        )
        self.fails(
            {"type": "merge", "value": {"a": json.loads(nested(16)), "constructor": 1}},
            "merge.value.proto_polluted",
            'Merge value top-level key "constructor" is a prototype-pollution sink',
        )

    def test_merge_value(self) -> None:
        """A merge takes an object, with at most 1024 keys, 16 levels, and no sink at its top."""
        for value in (None, 1, "x", [], [1], True):
            self.fails(
                {"type": "merge", "value": value}, "merge.value.not_an_object", "Merge value must be a JSON object"
            )
        keys = {str(number): 1 for number in range(1024)}
        self.applies({"type": "merge", "value": keys})
        self.fails(
            {"type": "merge", "value": {**keys, "x": 1}},
            "merge.value.too_many_keys",
            "Merge value has 1025 top-level keys, exceeds maximum of 1024",
        )
        self.applies({"type": "merge", "value": {"a": {"__proto__": 1}}})
        self.applies({"type": "merge", "value": {"a": json.loads(nested(15)), "b": ['[[[[[[[[[[[[[[[[[[\\"[{'] * 9}})
        self.fails(
            {"type": "merge", "value": {"a": json.loads(nested(16))}},
            "merge.value.too_deep",
            "Merge value JSON nesting depth 17 exceeds maximum of 16",
        )
        self.applies({"type": "merge", "value": {"a": [[], {}] * 20}})

    def test_unlimited(self) -> None:
        """Values of set and append are not checked so, nor the number of operations."""
        self.applies({"type": "set", "path": "x", "value": {"__proto__": json.loads(nested(30))}})
        self.applies({"type": "append", "path": "x", "value": {str(number): 1 for number in range(2000)}})
        updated = update("[]", json.dumps([{"type": "append", "value": number} for number in range(20_000)]))
        self.assertEqual(json.loads(updated.new), list(range(20_000)))

    def test_too_deep_to_send(self) -> None:
        """A result that no message could carry fails the whole update."""
        for kind, path, levels in (("set", "", DEEPEST), ("set", "x", DEEPEST - 1), ("append", "", DEEPEST - 1)):
            old = None if path == "" else "{}"
            operation = f'{{"type":"{kind}","path":"{path}","value":%s}}'
            self.assertEqual(update(old, f"[{operation % nested(levels)}]").errors, [])
            error = self.assertRaises(StorageError, update, old, f"[{operation % nested(levels + 1)}]")
            self.assertEqual(str(error), "the result would be nested deeper than 120 levels")
        deep = f'[{{"type":"append","path":{json.dumps(["x"] * 32)},"value":{nested(88)}}}]'
        self.assertRaises(StorageError, update, None, deep)

    def test_no_json(self) -> None:
        """What is stored and is no JSON fails the whole update, and is not overwritten."""
        for old in (b'{"a":1', b'{"a":01}', b'{"\xff":1}', b'{"a":' + b"[" * 100_000):
            error = self.assertRaises(StorageError, apply, old, _decode('[{"type":"set","path":"b"}]'))
            self.assertIn("failed to decode existing JSON: ", str(error))


keys = st.sampled_from(["a", "b", "c", "", "__proto__", LONG]) | st.text(max_size=3)
numbers = (
    st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 1, 2**63, 2**64 - 1, -(2**63), 1.0, -0.0, 1.7e308])
)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=4)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)
paths = st.none() | keys | st.lists(st.sampled_from("abc") | keys, max_size=4)
by = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2)
operations = st.one_of(
    st.fixed_dictionaries({"type": st.just("set"), "path": keys}, optional={"value": values}),
    st.fixed_dictionaries(
        {"type": st.just("merge"), "value": st.dictionaries(keys, values, max_size=3) | values},
        optional={"path": paths},
    ),
    st.fixed_dictionaries({"type": st.sampled_from(["increment", "decrement"]), "path": keys, "by": by}),
    st.fixed_dictionaries({"type": st.just("append"), "value": values}, optional={"path": paths}),
    st.fixed_dictionaries({"type": st.just("remove"), "path": keys}),
)


class OracleTests(SynchronousTestCase):
    @settings(max_examples=500, deadline=None)
    @given(st.just(update_oracle.ABSENT) | values, st.lists(operations, max_size=6), st.booleans(), st.booleans())
    def test_same(self, old: Any, listed: list[dict[str, Any]], ascii_only: bool, spaced: bool) -> None:
        """Any operations on any value come to what the tables say, read a second time; also the order of keys."""
        separators = (" , ", " : ") if spaced else (",", ":")
        text = None if old is update_oracle.ABSENT else json.dumps(old, ensure_ascii=ascii_only, separators=separators)
        updated = update(text, json.dumps(listed, ensure_ascii=ascii_only, separators=separators))
        new, errors = update_oracle.evaluate(old, listed)
        # By its text: True and 1 and 1.0 are equal in Python.
        self.assertEqual(json.dumps(json.loads(updated.new)), json.dumps(new))
        self.assertEqual([(error.op_index, error.code, error.message) for error in updated.errors], errors)
