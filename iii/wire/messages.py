"""
Every message of the worker protocol, both directions (spec/worker-protocol.md, 3 to 5).

Payloads (C{data}, C{result}, C{config}, …) are L{msgspec.Raw}: JSON text that passes through undecoded.  C{ABSENT} is a
payload that was not there.  Unknown members are ignored; an absent optional member and C{null} are the same on input,
and absent ones are left out on output.
"""

from __future__ import annotations

import re
import uuid
from itertools import accumulate
from json import loads
from typing import Any

import msgspec
from msgspec import Raw

ABSENT = Raw(b"")
NULL = Raw(b"null")
TELEMETRY_PREFIXES = (b"OTLP", b"MTRC", b"LOGS")
"""How binary frames with traces, metrics and logs begin; OTLP as JSON follows."""
DEFAULT_NAMESPACE = "default"
MAX_DEPTH = 127
"""Nesting levels of a message, its own object included (spec/worker-protocol.md, 3)."""
MAX_DIGITS = 640
"""Digits of an integer that Python reads whatever its settings are; by default it reads 4300."""


class Undecodable(Exception):
    """
    A frame is no message of the protocol.

    @ivar detail: What is wrong with it.
    @ivar invocation_id: The call that it speaks of, when that can be read.
    @ivar type: Its C{type}, when that can be read.
    """

    def __init__(self, detail: str, invocation_id: str | None = None, type: str | None = None) -> None:
        super().__init__(detail)
        self.detail, self.invocation_id, self.type = detail, invocation_id, type


class Message(msgspec.Struct, tag_field="type", omit_defaults=True, gc=False):
    """Base of all messages; the tag is C{type}."""


class ErrorBody(msgspec.Struct, omit_defaults=True, gc=False):
    """The C{error} of a message."""

    code: str
    message: str
    stacktrace: str | None = None


class Void(msgspec.Struct, tag_field="type", tag="void", gc=False):
    """The caller wants no answer."""


class Enqueue(msgspec.Struct, tag_field="type", tag="enqueue", gc=False):
    """
    The call is to be put into a queue (spec/worker-protocol.md, 7.3).  The other members are not in the reference; the
    queue provider knows what they mean (docs/queue.md).
    """

    queue: str
    delay_ms: int | None = None
    run_at: int | str | None = None
    priority: int | None = None
    deduplication_key: str | None = None
    deduplication_window_ms: int | None = None


class InvokeFunction(Message, tag="invokefunction"):
    """A call, in both directions (4 and 5).  Towards a worker C{data} and C{invocation_id} are always given."""

    function_id: str
    invocation_id: str | None = None
    data: Raw = ABSENT
    action: Void | Enqueue | None = None
    metadata: Raw = ABSENT
    namespace: str | None = None
    traceparent: str | None = None
    baggage: str | None = None


class InvocationResult(Message, tag="invocationresult"):
    """
    The outcome of a call, in both directions (4 and 7.2).

    @ivar invocation_id: From a worker as it wrote it; nearly always as it was asked.
    """

    invocation_id: str
    function_id: str | None = None
    result: Raw = ABSENT
    error: ErrorBody | None = None  # wins over a result sent with it
    traceparent: str | None = None
    baggage: str | None = None


class RegisterFunction(Message, tag="registerfunction"):
    """A worker offers a function."""

    id: str
    description: str | None = None
    request_format: Raw = ABSENT
    response_format: Raw = ABSENT
    metadata: Raw = ABSENT
    invocation: Raw = ABSENT  # an HTTP function (8)


class UnregisterFunction(Message, tag="unregisterfunction"):
    """A worker withdraws a function."""

    id: str


class RegisterService(Message, tag="registerservice"):
    """Of old SDKs; accepted without effect (11)."""

    id: str


class RegisterTriggerType(Message, tag="registertriggertype"):
    """A worker provides a trigger type."""

    id: str
    description: str = ""
    trigger_request_format: Raw = ABSENT
    call_request_format: Raw = ABSENT
    namespace: str | None = None


class UnregisterTriggerType(Message, tag="unregistertriggertype"):
    """A worker no longer provides a trigger type (unknown to the reference, sent by all SDKs)."""

    id: str
    namespace: str | None = None


class RegisterTrigger(Message, tag="registertrigger"):
    """A binding: from a worker to the engine (4), and from the engine to the provider of its type (5)."""

    id: str
    trigger_type: str
    function_id: str
    config: Raw = ABSENT
    metadata: Raw = ABSENT
    namespace: str | None = None
    trigger_namespace: str | None = None


class UnregisterTrigger(Message, tag="unregistertrigger"):
    """The end of a binding, in both directions.  Towards a provider C{trigger_type} is always given."""

    id: str
    trigger_type: str | None = None


class TriggerRegistrationResult(Message, tag="triggerregistrationresult"):
    """How a provider took a binding; towards the worker that registered it only failures are sent."""

    id: str
    trigger_type: str
    function_id: str
    error: ErrorBody | None = None


class Reattach(Message, tag="reattach"):
    """A worker names the connection that it had before (12.1)."""

    previous_worker_id: str
    reattach_token: str | None = None


class Ping(Message, tag="ping"):
    """JSON ping; answered with L{Pong}."""


class Pong(Message, tag="pong"):
    """JSON pong."""


class WorkerRegistered(Message, tag="workerregistered"):
    """The first frame that a worker gets."""

    worker_id: str
    reattach_token: str


class RegistrationRejected(Message, tag="registrationrejected"):
    """A name or function that another worker owns (6)."""

    code: str
    namespace: str
    owner_worker_id: str
    worker_name: str | None = None
    function_id: str | None = None


Incoming = (
    InvokeFunction
    | InvocationResult
    | RegisterFunction
    | UnregisterFunction
    | RegisterService
    | RegisterTriggerType
    | UnregisterTriggerType
    | RegisterTrigger
    | UnregisterTrigger
    | TriggerRegistrationResult
    | Reattach
    | Ping
    | Pong
    | WorkerRegistered
    | RegistrationRejected
)

encode = msgspec.json.Encoder().encode
_value_of = msgspec.json.Decoder(float_hook=float).decode
_decode = msgspec.json.Decoder(Incoming).decode
_is_canonical_uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_is_uuid = re.compile(
    r"(\{)?(?:[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?(1)\})",
    re.IGNORECASE | re.ASCII,
).fullmatch
_no_signs = bytes(set(range(256)) - set(b'[]{}"'))
_steps = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_invocation_id = re.compile(rb'"invocation_id"\s*:\s*"([0-9A-Fa-f{}-]{32,38})"')
_type = re.compile(rb'"type"\s*:\s*"([a-z]{1,40})"')


def decode(frame: bytes) -> Message:
    """
    Read one message.

    @param frame: JSON in UTF-8; C{bytes}, since the payloads of the message refer to it.
    @raise Undecodable: It is no message of the protocol, or nested deeper than L{MAX_DEPTH}.
    """
    try:
        message: Message = _decode(frame)
        if len(frame) >= 2 * MAX_DEPTH and nested_deeper(frame, MAX_DEPTH):
            raise Undecodable(f"nested deeper than {MAX_DEPTH} levels", *_salvage(frame))
        if type(message) is InvokeFunction and message.invocation_id is not None:
            message.invocation_id = canonical_uuid(message.invocation_id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Undecodable(str(error), *_salvage(frame)) from error
    return message


def check_utf8(frame: bytes) -> None:
    """L{Undecodable} for a binary frame that is not UTF-8: a payload of it would be passed on in text frames."""
    try:
        frame.decode()
    except UnicodeDecodeError as error:
        raise Undecodable(str(error), *_salvage(frame)) from error


def canonical_uuid(text: str) -> str:
    """Return a UUID in lower case with hyphens; also braces and missing hyphens are read.  C{ValueError} otherwise."""
    if _is_canonical_uuid(text):
        return text
    if not _is_uuid(text):
        raise ValueError("badly formed UUID")
    return str(uuid.UUID(text))


def nested_deeper(json: bytes, limit: int) -> bool:
    """
    Tell whether valid JSON is nested deeper than a number of levels.

    Counting brackets decides nearly always.  Else texts are taken out, and what is left is summed up, +1 for each
    opening bracket and -1 for each closing one; all of it runs at the speed of methods of C{bytes}, 4 ms for each MB.
    """
    if len(json) < 2 * limit or json.count(b"[") + json.count(b"{") <= limit:
        return False
    if b"\\" in json:
        json = json.replace(b"\\\\", b"").replace(b'\\"', b"")
    signs = json.translate(None, _no_signs).replace(b'""', b"")
    if b'"' in signs:
        signs = b"".join(signs.split(b'"')[::2])
    return max(accumulate(memoryview(signs.translate(_steps)).cast("b")), default=0) > limit


class _Envelope(msgspec.Struct):
    type: object = None
    invocation_id: object = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def _salvage(frame: bytes) -> tuple[str | None, str | None]:
    """Find the call and the type that an unreadable frame speaks of, as far as they stand out."""
    try:
        envelope = _decode_envelope(frame)
        call, kind = envelope.invocation_id, envelope.type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # no JSON, like what has NaN in it
        found, named = _invocation_id.search(frame), _type.search(frame)
        call, kind = found and found[1].decode(), named and named[1].decode()
    try:
        invocation_id = canonical_uuid(call) if isinstance(call, str) else None
    except ValueError:
        invocation_id = None
    return invocation_id, kind if isinstance(kind, str) else None


def is_null(payload: Raw) -> bool:
    """Whether a payload is absent or JSON C{null}."""
    return not payload or payload == NULL


def value_of(payload: Raw) -> Any:
    """
    A payload as Python objects.  Numbers beyond a double's range, which by themselves would be errors, are infinite,
    and null when they are written again; of integers this holds from 4301 digits on.
    """
    try:
        return _value_of(payload)
    except msgspec.ValidationError:  # there is no other reason than such an integer
        return loads(bytes(payload), parse_int=_integer)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


def with_member(payload: Raw, member: bytes) -> Raw:
    """
    Put one more member at the end of a JSON object, where it wins over one of the same name.

    @param payload: Any JSON; what is no object is returned as it is.
    @param member: C{b'"name":value}'}, the closing brace included.
    """
    text = bytes(payload)
    if not text.startswith(b"{"):
        return payload
    head = text[:-1].rstrip()
    return Raw(head + (member if head == b"{" else b"," + member))
