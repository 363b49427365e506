"""What a worker says about itself (spec/engine-functions.md, 6)."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

MiB = 2**20
MAX_TEXT = 280
MAX_NAMESPACE = 1024
MAX_FEATURES = 32
_unprintable = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


class Telemetry(msgspec.Struct, omit_defaults=True):
    """Descriptive; nothing is reported anywhere."""

    language: str | None = None
    project_name: str | None = None
    framework: str | None = None

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            setattr(self, field, _clean(getattr(self, field)))


class Announcement(msgspec.Struct, omit_defaults=True):
    """What a worker says about itself.  Long texts are cut, so that it stays small whatever was sent."""

    runtime: str | None = None  # the SDK's language, and its version
    version: str | None = None
    name: str | None = None
    description: str | None = None
    os: str | None = None
    pid: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None  # without one, it is not listed
    isolation: str | None = None
    namespace: Annotated[str, msgspec.Meta(max_length=MAX_NAMESPACE)] | None = None
    telemetry: Telemetry | None = None
    features: list[str] | None = None  # what its SDK understands beyond the core protocol

    def __post_init__(self) -> None:
        for field in ("runtime", "version", "name", "description", "os", "isolation"):
            setattr(self, field, _clean(getattr(self, field)))
        if self.features is not None:
            self.features = [feature[:MAX_TEXT] for feature in self.features[:MAX_FEATURES]]

    def updated(self, newer: Announcement) -> Announcement:
        """Return what holds after a repeated announcement: C{runtime}, C{version}, C{telemetry} always change."""
        changes = {
            field: getattr(newer, field)
            for field in ("name", "description", "os", "pid", "isolation", "features")
            if getattr(newer, field) is not None
        }
        return msgspec.structs.replace(
            self, runtime=newer.runtime, version=newer.version, telemetry=newer.telemetry, **changes
        )

    @property
    def accepts_bytes(self) -> int:
        """The largest message that the worker's SDK takes without closing its connection (spec, 15)."""
        if "large-messages.v1" in (self.features or ()):
            return 64 * MiB
        release = _release(self.version or "")
        if self.runtime == "python" and release < (0, 24):
            return MiB
        if self.runtime == "rust" and release < (0, 25):
            return 16 * MiB
        return 64 * MiB


def _clean(text: str | None) -> str | None:
    """Remove what could garble a listing, and shorten; nothing left is none."""
    return _unprintable.sub("", text)[:MAX_TEXT].strip() or None if text is not None else None


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version; an unreadable one counts as the newest."""
    found = re.match(r"(\d{1,9})\.(\d{1,9})", version)
    return (int(found[1]), int(found[2])) if found else (2**31,)
