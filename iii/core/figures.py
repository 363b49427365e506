"""Figures that modules have about themselves, for whoever exports them: read when asked, so counting costs little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs


@attrs.frozen
class Figure:
    """
    One figure, as it is now.

    @ivar name: As others know it, without C{iii_} before and C{_total} behind it; never changed once released.
    @ivar kind: A gauge, or a counter since the start.
    @ivar labels: What tells its values apart.  Whoever makes it bounds how many there are.
    @ivar values: By the values of the labels; NaN where it is not known.
    """

    name: str
    kind: Literal["gauge", "counter"]
    text: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float]
