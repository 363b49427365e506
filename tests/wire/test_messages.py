"""Tests for L{iii.wire.messages}."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from iii.wire.messages import (
    ABSENT,
    MAX_DEPTH,
    NULL,
    ErrorBody,
    InvocationResult,
    InvokeFunction,
    RegisterFunction,
    RegisterTrigger,
    Undecodable,
    Void,
    canonical_uuid,
    decode,
    encode,
    is_null,
    nested_deeper,
    value_of,
    with_member,
)

ID = "123e4567-e89b-12d3-a456-426614174000"

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    """A frame whose payload has a number of levels."""
    return f'{{"type":"invokefunction","function_id":"f","data":{opening * levels}{closing * levels}}}'.encode()


class DecodeTests(SynchronousTestCase):
    def refused(self, frame: bytes) -> Undecodable:
        return self.assertRaises(Undecodable, decode, frame)

    def test_payload_passes_undecoded(self) -> None:
        """The bytes of a payload come out as they came in."""
        message = decode(b'{"type":"invokefunction","function_id":"f","data":{"b": 1.0,  "a":[1e3]}}')
        assert isinstance(message, InvokeFunction)
        self.assertEqual(bytes(message.data), b'{"b": 1.0,  "a":[1e3]}')

    def test_type_last(self) -> None:
        """C{type} may stand anywhere in the object: the Python SDK puts it last."""
        self.assertIsInstance(decode(b'{"id":"f","response_format":{},"type":"registerfunction"}'), RegisterFunction)

    def test_missing_payload(self) -> None:
        """SDKs leave C{data} and C{config} out when there is none."""
        self.assertEqual(decode(b'{"type":"invokefunction","function_id":"f"}').data, ABSENT)
        trigger = decode(b'{"type":"registertrigger","id":"t","trigger_type":"x","function_id":"f"}')
        assert isinstance(trigger, RegisterTrigger)
        self.assertEqual(trigger.config, ABSENT)

    def test_null_is_absent(self) -> None:
        """An optional member that is null counts as not there."""
        message = decode(
            b'{"type":"invokefunction","function_id":"f","invocation_id":null,"action":null,"namespace":null,'
            b'"traceparent":null,"baggage":null,"data":null}'
        )
        self.assertEqual(message, InvokeFunction("f", data=NULL))

    def test_unknown_members(self) -> None:
        """Members that are not in the protocol are ignored: Node sends C{message_type}."""
        message = decode(b'{"type":"unregistertrigger","message_type":"x","id":"t","trigger_type":"http"}')
        self.assertEqual(message.trigger_type, "http")

    def test_action(self) -> None:
        """A void call is told from an ordinary one."""
        message = decode(b'{"type":"invokefunction","function_id":"f","action":{"type":"void"}}')
        self.assertEqual(message.action, Void())

    def test_ids_become_canonical(self) -> None:
        """UUIDs are read in any case, in braces and without hyphens, and come out in one form."""
        for form in (ID.upper(), ID.replace("-", ""), "{" + ID + "}"):
            message = decode(b'{"type":"invokefunction","function_id":"f","invocation_id":"%b"}' % form.encode())
            self.assertEqual(message.invocation_id, ID)

    def test_no_uuid(self) -> None:
        """An invocation id that is no UUID makes the frame undecodable: strict SDKs could not read it."""
        self.refused(b'{"type":"invokefunction","function_id":"f","invocation_id":"inv-1"}')

    def test_no_message(self) -> None:
        """What is no message of the protocol raises L{Undecodable} and nothing else."""
        for frame in (
            b"",
            b"nonsense",
            b"[]",
            b"null",
            b'{"type":"nonsense"}',
            b'{"function_id":"f"}',
            b'{"type":"invokefunction"}',
            b'{"type":"invokefunction","function_id":7}',
            b'{"type":"invokefunction","function_id":"\xff"}',
            b'{"type":"invokefunction","function_id":"f","data":NaN}',
            b'{"type":"invokefunction","function_id":"f","data":1} trailing',
            b'{"type":"invokefunction","function_id":"f","action":{"type":"other"}}',
            b'{"type":"invocationresult","invocation_id":"%b","error":{"code":7}}' % ID.encode(),
        ):
            self.refused(frame)

    def test_salvage(self) -> None:
        """The error tells which call an unreadable frame speaks of, if that stands out."""
        error = self.refused(b'{"type":"invocationresult","invocation_id":"%b","error":"boom"}' % ID.upper().encode())
        self.assertEqual((error.invocation_id, error.type), (ID, "invocationresult"))
        error = self.refused(b'{"type":"invokefunction","function_id":"f","data":NaN}')
        self.assertEqual((error.invocation_id, error.type), (None, "invokefunction"))

    def test_lone_surrogate(self) -> None:
        """An unpaired surrogate escape is refused: strict receivers lose the whole message over it."""
        for data in (r'"\ud800"', r'"\ud800x"', r'{"a":"\udc00"}', r'"\ud800\u0041"'):
            self.refused(b'{"type":"invokefunction","function_id":"f","data":%b}' % data.encode())
        decode(rb'{"type":"invokefunction","function_id":"f","data":"\ud83d\ude00"}')

    def test_depth(self) -> None:
        """C{MAX_DEPTH} levels pass, the frame's own object included; one more does not, nor do very many."""
        decode(nested(MAX_DEPTH - 1))
        for levels in (MAX_DEPTH, 500, 5000, 200_000):
            self.refused(nested(levels))

    @given(values)
    def test_round_trip(self, value: object) -> None:
        """Any JSON value passes through a call unchanged."""
        sent = encode(InvokeFunction("f", ID, Raw(json.dumps(value).encode())))
        message = decode(sent)
        assert isinstance(message, InvokeFunction)
        self.assertEqual(json.loads(bytes(message.data)), value)

    @given(st.binary())
    def test_any_bytes(self, frame: bytes) -> None:
        """Whatever comes, L{decode} returns a message or raises L{Undecodable}."""
        try:
            decode(frame)
        except Undecodable:
            pass


class EncodeTests(SynchronousTestCase):
    def test_absent_is_left_out(self) -> None:
        """Optional members that are absent do not appear."""
        self.assertEqual(
            encode(InvocationResult(ID, "f")),
            b'{"type":"invocationresult","invocation_id":"%b","function_id":"f"}' % ID.encode(),
        )

    def test_null_is_sent(self) -> None:
        """Null as a payload is sent: strict receivers want C{data} on every call."""
        self.assertIn(b'"data":null', encode(InvokeFunction("f", ID, NULL)))

    def test_error(self) -> None:
        """An error without a stack trace has no such member."""
        frame = encode(InvocationResult(ID, "f", error=ErrorBody("c", "m")))
        self.assertTrue(frame.endswith(b'"error":{"code":"c","message":"m"}}'))


class NestedDeeperTests(SynchronousTestCase):
    def test_brackets_in_texts_do_not_count(self) -> None:
        """Only structure counts, not brackets within strings, also after escaped quotes."""
        text = json.dumps(['"' + "[" * 300, {"]}": '\\"' + "{" * 300}]).encode()
        self.assertFalse(nested_deeper(text, 2))
        self.assertTrue(nested_deeper(text + b" " * 400, 1))

    def test_texts_do_not_close(self) -> None:
        """A closing bracket within a string does not hide a level."""
        self.assertTrue(nested_deeper(b'["]",' * 200 + b"0" + b"]" * 200, 127))

    def test_width_does_not_count(self) -> None:
        """Many values beside each other are not deep."""
        self.assertFalse(nested_deeper(json.dumps([[{}] * 1000] * 3).encode(), 3))

    @given(values, st.integers(1, 6))
    def test_agrees_with_a_plain_count(self, value: object, limit: int) -> None:
        """The answer is that of a recursive count."""

        def depth(part: object) -> int:
            inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
            return 0 if not isinstance(part, dict | list) else 1 + max(map(depth, inner), default=0)

        # Padded, since what is shorter than its brackets would be is not looked at.
        text = json.dumps(value).encode() + b" " * 20
        self.assertEqual(nested_deeper(text, limit), depth(value) > limit)


class PayloadTests(SynchronousTestCase):
    def test_member_goes_last(self) -> None:
        """A member is put at the end, where it wins, also into an empty object and before white space."""
        for text in (b"{}", b"{ }", b'{"a":1}', b'{"a":1 }', b'{"x":2}', b'{"a":{}}'):
            merged = json.loads(bytes(with_member(Raw(text), b'"x":1}')))
            self.assertEqual(merged, {**json.loads(text), "x": 1})

    def test_member_only_into_objects(self) -> None:
        """Arrays, scalars and null stay as they are."""
        for text in (b"[]", b"null", b'"{}"', b"1"):
            self.assertEqual(bytes(with_member(Raw(text), b'"x":1}')), text)

    def test_is_null(self) -> None:
        """Absent and null are nothing; anything else is something."""
        self.assertTrue(is_null(ABSENT) and is_null(NULL) and is_null(Raw(b"null")))
        self.assertFalse(is_null(Raw(b"0")) or is_null(Raw(b'""')) or is_null(Raw(b"false")))

    def test_value_of(self) -> None:
        """Any payload can be read, and what was read can be written; what is beyond a double's range is infinite."""
        for text, expected in (
            (b"[1, -2.5, null]", [1, -2.5, None]),
            (b"9" * 400, int("9" * 400)),
            (b"1e400", math.inf),
            (b"9" * 4301, math.inf),
            (b'{"a":[-%s,1,"%s",1e400,%s]}' % (b"9" * 5000, b"9" * 5000, b"7" * 640),
             {"a": [-math.inf, 1, "9" * 5000, math.inf, int("7" * 640)]}),
        ):  # fmt: skip
            self.assertEqual(value_of(Raw(text)), expected)
            encode(value_of(Raw(text)))

    def test_canonical_uuid(self) -> None:
        """Text that is no UUID is refused."""
        for bad in (
            "x" * 36, "0x" + "1" * 30, "+" + "1" * 31, " " + "1" * 31, "urn:uuid:" + ID, "{" + ID, ID + "}",
            "\u0661" * 32, "11111111-11111111-1111-111111111111", "",
        ):  # fmt: skip
            self.assertRaises(ValueError, canonical_uuid, bad)
