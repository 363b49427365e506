"""Tests for L{iii.modules.http.request}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.modules.http.request import lowered_names, parse_query


class QueryTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """A query is decoded as a form: spec/http.md, A5."""
        for query, expected in (
            ("a=1&b=2", {"a": "1", "b": "2"}),
            ("a", {"a": ""}),
            ("a=", {"a": ""}),
            ("=a", {"": "a"}),
            ("a=b=c", {"a": "b=c"}),
            ("a+b=c+d", {"a b": "c d"}),
            ("a=%2B%20%26", {"a": "+ &"}),
            ("%C3%BC=%E2%82%AC", {"ü": "€"}),
            ("a=%FF%zz%4", {"a": "\ufffd%zz%4"}),
            ("&&a=1&", {"a": "1"}),
            ("a?b=c", {"a?b": "c"}),
            ("a;b=c", {"a;b": "c"}),
            ("", {}),
        ):
            self.assertEqual(parse_query(query), (expected, {}), query)

    def test_repeated(self) -> None:
        """The last value of a name wins; all of them are told beside."""
        self.assertEqual(parse_query("a=1&b=2&a=&a=3"), ({"a": "3", "b": "2"}, {"a": ["1", "", "3"]}))


class NamesTests(SynchronousTestCase):
    def test_unusual_names(self) -> None:
        """Names of headers that are never the same do not fill the memory."""
        for number in range(5000):
            self.assertEqual(lowered_names[b"X-Name-%d" % number], f"x-name-{number}")
        self.assertLessEqual(len(lowered_names), lowered_names.LIMIT)
