"""Tests for L{iii.modules.http.response}: the tables of spec/http.md, A7."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.http.response import read_result


def read(value: Any, *overridden: str) -> tuple[int, list[str], bytes]:
    """Read what a function returned; give status, header lines and body."""
    answer = read_result(Raw(json.dumps(value, ensure_ascii=False).encode()), frozenset(overridden))
    return answer.status, answer.fields.lines.decode().split("\r\n")[:-1], answer.body


class StatusTests(SynchronousTestCase):
    def test_status(self) -> None:
        """An integer counts, modulo 65536, from 100 to 999; all else is 200."""
        for given, status in (
            (200, 200), (404, 404), (100, 100), (999, 999), (99, 200), (1000, 200), (0, 200), (65536 + 201, 201),
            (65536, 200), (-1, 200), (404.0, 200), ("404", 200), (None, 200), (True, 200), ([404], 200), ({}, 200),
            (10**30, 200),
        ):  # fmt: skip
            self.assertEqual(read({"status_code": given})[0], status, given)

    def test_other_keys(self) -> None:
        """Any other key is ignored, also C{statusCode} of the Python SDK's helper."""
        self.assertEqual(read({"statusCode": 404, "x": 1, "body": 2})[0], 200)


class PlainValuesTests(SynchronousTestCase):
    def test_plain_values(self) -> None:
        """A value that is no object, or has no body, gives C{{}}."""
        for value in ("text", 1, [1, 2], True, {}, {"a": 1}):
            self.assertEqual(read(value), (200, ["content-type: application/json"], b"{}"), value)


class BodyTests(SynchronousTestCase):
    def test_without_type(self) -> None:
        """Without a content type the body is JSON, whatever it is."""
        for body in ("text", None, 1, [1], {"a": "ü"}):
            expected = json.dumps(body, ensure_ascii=False).encode()
            self.assertEqual(read({"body": body}), (200, ["content-type: application/json"], expected))

    def test_untouched(self) -> None:
        """JSON passes through as the function wrote it."""
        answer = read_result(Raw(b'{"body": {"b" : 1.0, "a":1e400 }, "c":1}'), frozenset())
        self.assertEqual(answer.body, b'{"b" : 1.0, "a":1e400 }')

    def test_text(self) -> None:
        """With any content type a text is sent as it is, and C{null} as nothing."""
        for content_type in ("text/xml", "application/json", ""):
            headers = {"Content-Type": content_type}
            lines = [f"content-type: {content_type}"]
            self.assertEqual(read({"headers": headers, "body": '<a b="ü"/>\n'}), (200, lines, '<a b="ü"/>\n'.encode()))
            self.assertEqual(read({"headers": headers, "body": None}), (200, lines, b""))

    def test_other_with_type(self) -> None:
        """Anything else is JSON, and the content type is as given."""
        for content_type in ("application/json; charset=utf-8", "APPLICATION/JSON", "text/csv"):
            answer = read({"headers": {"content-type": content_type}, "body": {"a": [1]}})
            self.assertEqual(answer, (200, [f"content-type: {content_type}"], b'{"a": [1]}'))

    def test_absent_with_type(self) -> None:
        """An absent body is C{{}} with a content type, too."""
        self.assertEqual(read({"headers": {"content-type": "text/plain"}})[2], b"{}")


class HeadersTests(SynchronousTestCase):
    def lines(self, headers: Any, *overridden: str) -> list[str]:
        return [line for line in read({"headers": headers}, *overridden)[1] if not line.startswith("content-type:")]

    def test_object(self) -> None:
        """An object of texts; names become lower case, other values are dropped."""
        self.assertEqual(self.lines({"X-A": "b", "n": 1, "o": None, "l": ["x"], "E": ""}), ["x-a: b", "e: "])

    def test_array(self) -> None:
        """An array of lines, split at the first colon and trimmed; a name may be repeated."""
        given = ["Set-Cookie: a=1", "set-cookie :b=2 ", "X:http://y", "none", ": empty", "  : empty", 5]
        self.assertEqual(self.lines(given), ["set-cookie: a=1", "set-cookie: b=2", "x: http://y"])

    def test_array_with_type(self) -> None:
        """The content type counts in this form, too."""
        self.assertEqual(
            read({"headers": ["Content-Type: text/plain"], "body": "a"}), (200, ["content-type: text/plain"], b"a")
        )

    def test_neither(self) -> None:
        """Anything else is no headers."""
        for headers in ("x", 1, None, True, [[]], [{}]):
            self.assertEqual(read({"headers": headers}), (200, ["content-type: application/json"], b"{}"))

    def test_not_ascii(self) -> None:
        """Values go out as UTF-8."""
        self.assertEqual(self.lines({"a": "ü€"}), ["a: ü€"])

    def test_invalid(self) -> None:
        """Names and values that cannot be sent are left out."""
        self.assertEqual(
            self.lines({"a b": "c", "ü": "d", "e": "f\r\ng: h", "i": "j\x00", "k": "\x7f", "l": "m\tn"}), ["l: m\tn"]
        )

    def test_invalid_type(self) -> None:
        """A content type that cannot be sent is none."""
        self.assertEqual(
            read({"headers": {"content-type": "a\nb"}, "body": "c"}), (200, ["content-type: application/json"], b'"c"')
        )

    def test_framing(self) -> None:
        """Length, coding, connection and date are the connection's."""
        given = ("Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Trailer", "Date")
        self.assertEqual(self.lines(dict.fromkeys(given, "1")), [])

    def test_overridden(self) -> None:
        """Headers that the listener sets give way."""
        self.assertEqual(
            self.lines({"Access-Control-Allow-Origin": "a", "vary": "b"}, "access-control-allow-origin"), ["vary: b"]
        )
