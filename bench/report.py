"""What a run found, as values: rows of a table, figures with their aims, and answers that were not as they must be."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from statistics import median

import attrs

from bench.ledger import Round

ROW = "  {:<28}{:>11}{:>9}{:>9}{:>9}{:>7}{:>10}{:>10}"
HEADINGS = ROW.format("", "per second", "CPU µs", "worker", "load", "busy", "p50 µs", "p99 µs")


@attrs.frozen
class Aim:
    """A bound that a figure shall keep.  A missed one is shown and fails nothing: machines differ."""

    sign: str  # "≥" or "≤"
    bound: float

    def met(self, value: float) -> bool:
        return value >= self.bound if self.sign == "≥" else value <= self.bound


@attrs.frozen
class Figure:
    """One number with the lowest and highest of its repeats."""

    label: str
    value: float
    low: float
    high: float
    unit: str = ""
    aim: Aim | None = None
    met: bool | None = attrs.field(init=False)

    @met.default
    def _judge(self) -> bool | None:
        return None if self.aim is None else self.aim.met(self.value)

    @classmethod
    def of(cls, label: str, values: Sequence[float], unit: str = "", aim: Aim | None = None) -> Figure:
        """Return the median of these values as a figure."""
        return cls(label, median(values), min(values), max(values), unit, aim)

    def __str__(self) -> str:
        text = f"  {self.label}: {_short(self.value)}{self.unit}"
        if self.low < self.high:
            text += f" ({_short(self.low)} to {_short(self.high)})"
        if self.aim is None:
            return text
        verdict = "met" if self.met else "MISSED"
        return f"{text}, aim {self.aim.sign} {_short(self.aim.bound)}{self.unit}: {verdict}"


@attrs.frozen
class Row:
    """Medians over the rounds of one side: the server's, worker's and load's CPU microseconds are for each answer."""

    label: str
    per_second: float
    server_cpu_us: float
    worker_cpu_us: float | None
    load_cpu_us: float
    busy: float
    p50_us: float
    p99_us: float

    @classmethod
    def of(cls, label: str, rounds: Sequence[Round]) -> Row:
        with_worker = len(rounds[0].cpu_seconds) > 1
        return cls(
            label,
            per_second=median(each.per_second for each in rounds),
            server_cpu_us=median(each.cpu_us() for each in rounds),
            worker_cpu_us=median(each.cpu_us(1) for each in rounds) if with_worker else None,
            load_cpu_us=median(each.load_cpu_us for each in rounds),
            busy=median(each.busy() for each in rounds),
            p50_us=median(each.latency_p50_us for each in rounds),
            p99_us=median(each.latency_p99_us for each in rounds),
        )

    def __str__(self) -> str:
        worker = "" if self.worker_cpu_us is None else _short(self.worker_cpu_us)
        times = (_short(self.p50_us), _short(self.p99_us))
        costs = (_short(self.server_cpu_us), worker, _short(self.load_cpu_us), f"{self.busy:.0%}")
        return ROW.format(self.label, _short(self.per_second), *costs, *times)


@attrs.define
class Section:
    """What one benchmark found."""

    title: str
    rows: list[Row] = attrs.field(factory=list)
    figures: list[Figure] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)

    def account_for(self, label: str, found: Round) -> None:
        """Note a round in which an answer was lost, wrong, or came to nobody's call."""
        if found.failures:
            self.failures.append(
                f"{label}: of {found.asked:,} asked {found.lost:,} lost, {found.wrong:,} wrong, "
                f"{found.stray:,} stray answers{': ' if found.ended else ''}{found.ended}"
            )

    def compare(self, name: str, ours: list[Round], other_name: str, others: list[Round], aim: Aim | None) -> None:
        """Add both sides' rows, and the ratios of their rates and of their servers' CPU within pairs of rounds."""
        self.rows += [Row.of(name, ours), Row.of(other_name, others)]
        pairs = [(our, other) for our, other in zip(ours, others, strict=True) if our.answered and other.answered]
        if pairs:
            rates = [our.per_second / other.per_second for our, other in pairs]
            costs = [our.cpu_us() / other.cpu_us() for our, other in pairs]
            self.figures.append(Figure.of(f"rate, {name} / {other_name}", rates, aim=aim))
            self.figures.append(Figure.of(f"CPU, {name} / {other_name}", costs))

    def __str__(self) -> str:
        rows = [HEADINGS, *map(str, self.rows)] if self.rows else []
        notes = [f"  {note}" for note in self.notes]
        failures = [f"  FAILED {failure}" for failure in self.failures]
        return "\n".join([self.title, *rows, *map(str, self.figures), *notes, *failures, ""])


@attrs.frozen
class Machine:
    """Where the run took place.  A load average well above 0 before it means that other work disturbs the figures."""

    python: str = attrs.field(factory=platform.python_version)
    cpus: int | None = attrs.field(factory=os.cpu_count)
    load_average: float = attrs.field(factory=lambda: os.getloadavg()[0])

    def __str__(self) -> str:
        return f"Python {self.python}, {self.cpus} CPUs, load average before the run {self.load_average:.2f}\n"


def as_json(machine: Machine, plan: attrs.AttrsInstance, sections: dict[str, Section]) -> dict[str, object]:
    """Return the whole run as plain values."""
    found = {name: attrs.asdict(section, value_serializer=_null_for_nan) for name, section in sections.items()}
    return {"machine": attrs.asdict(machine), "plan": attrs.asdict(plan), "benchmarks": found}


def _null_for_nan(_: object, __: object, value: object) -> object:
    """Of a round without answers there are no quantiles or costs, and JSON has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _short(number: float) -> str:
    """Three digits, or all that are before the point; counts as they are."""
    size = abs(number)
    return f"{number:,.{0 if size >= 100 or float(number).is_integer() else 1 if size >= 10 else 2}f}"
