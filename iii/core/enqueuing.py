"""What a queue provider is asked for: the contract of C{engine::queue::enqueue} (spec/queue.md, 3.1)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from iii.wire.messages import NULL

ENQUEUE = "engine::queue::enqueue"


class EnqueueRequest(msgspec.Struct):
    """A message for a named queue; from C{delay_ms} on, the members are not in the reference."""

    queue: str
    function_id: str
    data: Raw = NULL
    messageReceiptId: str | None = None
    traceparent: str | None = None
    baggage: str | None = None
    namespace: str | None = None
    delay_ms: Annotated[int | None, Meta(description="how long it waits before it may run")] = None
    run_at: Annotated[int | str | None, Meta(description="when it may run: ms since the epoch, or ISO 8601")] = None
    priority: Annotated[int | None, Meta(description="0 to 255; higher ones run first")] = None
    deduplication_key: Annotated[str | None, Meta(description="of two with one key, the second is not taken")] = None
    deduplication_window_ms: Annotated[int | None, Meta(description="how long the key counts")] = None

    def payload(self) -> bytes:
        """Return it for a provider that is a worker: C{traceparent} may be null, other members are left out then."""
        members: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        return msgspec.json.encode(
            {name: value for name, value in members.items() if value is not None or name == "traceparent"}
        )


class Receipt(msgspec.Struct, omit_defaults=True):
    """
    The message is on disk.

    @ivar messageReceiptId: Its id.
    @ivar deduplicated: It is that of an earlier message with the same key; this one was not taken.
    """

    messageReceiptId: str
    deduplicated: bool = False
