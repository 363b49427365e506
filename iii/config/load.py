"""From a file to L{Settings}: read, expand, parse, check, complete."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from iii.config.blocks.outside import TelemetrySettings
from iii.config.blocks.queue import QueueSettings
from iii.config.entries import Listed, listed
from iii.config.errors import ConfigError, Place, Report, located
from iii.config.expand import expand
from iii.config.legacy import is_legacy
from iii.config.modules import BRIDGE, MODULES, WORKER_MANAGER
from iii.config.parts import MONTH_MS, Delay
from iii.config.reader import Reader
from iii.config.settings import EngineSettings, ModuleEntry, Root, Settings
from iii.config.yaml import MAX_CHARACTERS, parse

S = TypeVar("S", bound=msgspec.Struct)


def load(path: str | Path | None, environ: Mapping[str, str]) -> Settings:
    """
    Read a configuration file; without one, the L{default_settings}.

    @param path: The file, relative to the working directory, as are the paths in it.
    @raise ConfigError: The file cannot be read, or something in it is wrong.
    """
    return default_settings(environ) if path is None else from_text(_content(str(path)), str(path), environ)


def default_settings(environ: Mapping[str, str]) -> Settings:
    """Return what an engine without a file runs: every module that needs no settings, with its defaults."""
    workers = [{"name": module.name} for module in MODULES.values() if module.without_file]
    return _settings({"workers": workers}, Report("without a file", {}), None, environ)


def from_text(text: str, path: str, environ: Mapping[str, str]) -> Settings:
    """
    Read a configuration from the text of its file.

    @param path: Where the text is from, for messages and for the name of the data directory.
    @raise ConfigError: Something in it is wrong.  All that is wrong with the settings is told at once; variables
        that are not set, and text that is no YAML, before that.
    """
    document = parse(expand(text, environ, path), path)
    if not isinstance(document.value, dict):
        raise ConfigError(located(path, document.lines[()], "expected a mapping with keys such as workers and engine"))
    return _settings(document.value, Report(path, document.lines), path, environ)


def _content(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise ConfigError(located(path, None, f"cannot be read: {error.strerror}")) from error
    if len(content) > MAX_CHARACTERS:
        raise ConfigError(located(path, None, f"longer than {MAX_CHARACTERS} bytes"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(located(path, line, f"not UTF-8: byte 0x{content[error.start]:02X}")) from error


def _settings(root: Mapping[str, object], report: Report, path: str | None, environ: Mapping[str, str]) -> Settings:
    reader = Reader(report, strict=not is_legacy(root))
    top = reader.read(Root, root, Place())
    engine = _engine(root.get("engine"), reader, path, environ)
    modules = _modules(top, engine, reader, report, environ) if top else []
    report.check()
    assert top is not None and engine is not None, "otherwise an error was reported"
    return Settings(
        path=None if path is None else Path(os.path.abspath(path)),
        engine=engine,
        registration_namespace_grace_ms=_grace_ms(top, environ),
        modules=tuple(entry for entry in modules if MODULES[entry.module].available),
        unavailable=tuple(entry for entry in modules if not MODULES[entry.module].available),
        warnings=tuple(report.warnings),
    )


def _engine(block: object, reader: Reader, path: str | None, environ: Mapping[str, str]) -> EngineSettings | None:
    defaults = {
        "data_directory": f"data/{Path(path).stem if path else 'default'}",
        "host": environ.get("III_HOST"),
        "token": environ.get("III_TOKEN"),
    }
    engine = reader.read(EngineSettings, _completed(block, defaults), Place(("engine",), "engine"))
    if engine is None:
        return None
    api = block.get("api") if isinstance(block, dict) else None
    return replace(engine, api=_inherited(engine.api, api, engine))


def _modules(
    top: Root, engine: EngineSettings | None, reader: Reader, report: Report, environ: Mapping[str, str]
) -> list[ModuleEntry]:
    """Return the modules that are to run.  A block that is wrong, which is reported, leaves its module out."""
    modules = []
    for entry in listed(top, reader, report):
        block = _completed(entry.block, _defaults(entry, top, environ))
        settings = reader.read(entry.module.settings, block, entry.place)
        _report_missing(entry, report)
        off = isinstance(settings, TelemetrySettings) or isinstance(settings, QueueSettings) and not settings.enabled
        if settings is not None and engine is not None and not off:
            settings = _inherited(settings, entry.block, engine)
            modules.append(ModuleEntry(name=entry.name, module=entry.module.name, settings=settings))
    return modules


def _report_missing(entry: Listed, report: Report) -> None:
    given = entry.block if isinstance(entry.block, dict) else {}
    for key in entry.module.missing_keys:
        if given.get(key) not in (None, []):
            report.error(entry.place.child(key), "is not available yet; remove it, or wait for a later version")
    adapter = given.get("adapter")
    if isinstance(adapter, dict) and adapter.get("name") in entry.module.missing_adapters:
        place = entry.place.child("adapter").child("name")
        report.error(place, f'"{adapter["name"]}" is not available yet; use another, or wait for a later version')
    idle = [key for key in entry.module.idle_keys if given.get(key) not in (None, [])]
    if idle:
        report.warning(entry.place, f"without effect in this version: {', '.join(idle)}")


def _defaults(entry: Listed, top: Root, environ: Mapping[str, str]) -> Mapping[str, object]:
    """Return what a block gets from elsewhere when it does not say it (spec/config.md, 11 and 13)."""
    if entry.name == WORKER_MANAGER:
        return {"port": top.port}
    return {"url": environ.get("III_URL")} if entry.module.name == BRIDGE else {}


def _completed(block: object, defaults: Mapping[str, object]) -> object:
    given = {} if block is None else block
    if not isinstance(given, dict):
        return block
    return {**given, **{key: value for key, value in defaults.items() if value and given.get(key) is None}}


def _inherited(settings: S, block: object, engine: EngineSettings) -> S:
    """Return the settings of a listener with what its block leaves to the engine's settings."""
    given = block if isinstance(block, dict) else {}
    left = [key for key in ("host", "tls") if key in settings.__struct_fields__ and given.get(key) is None]
    return replace(settings, **{key: getattr(engine, key) for key in left})


def _grace_ms(top: Root, environ: Mapping[str, str]) -> int:
    text = environ.get("III_NAMESPACE_GRACE_MS")
    if not text:
        return top.registration_namespace_grace_ms
    try:
        return msgspec.convert(text, Delay, strict=False)
    except msgspec.ValidationError as error:
        expected = f"expected an integer from 0 to {MONTH_MS}"
        raise ConfigError(f"environment variable III_NAMESPACE_GRACE_MS: {expected}") from error
