"""
What the tests with SDKs share.

A contract is a mixin; L{on_each_sdk} and L{on_each_pair} make a test case of it for every SDK or pair of SDKs that has
what the contract needs, with those of its tests whose needs they meet, too.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import attrs
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from tests.integration.engine import EngineProcess
from tests.integration.process import eventually
from tests.sdk.client import Client, RemoteError, connect
from tests.sdk.environments import PAIRS, SDKS
from tests.sdk.sdk import Ability, Sdk
from tests.sdk.stage import Theatre, Worker, theatre

T = TypeVar("T")

# A contract is no TestCase by itself, or Trial would run it without an SDK.
if TYPE_CHECKING:
    Mixin = TestCase
else:
    Mixin = object


@attrs.frozen
class Needs:
    """
    The abilities without which SDKs cannot take part in a test.

    @ivar each: What every SDK must be able to.
    @ivar first: What the first SDK of a pair must be able to, besides.
    @ivar second: Likewise the second.
    """

    each: tuple[Ability, ...] = ()
    first: tuple[Ability, ...] = ()
    second: tuple[Ability, ...] = ()

    def met_by(self, *sdks: Sdk) -> bool:
        roles = itertools.zip_longest(sdks, (self.first, self.second)[: len(sdks)], fillvalue=())
        return all(sdk.can(*self.each, *role) for sdk, role in roles)

    @property
    def all(self) -> frozenset[Ability]:
        return frozenset((*self.each, *self.first, *self.second))


@attrs.frozen
class NeedingTest:
    """
    A test method with needs.

    It is no function, so that Trial does not find it in a contract: L{on_each_sdk} and L{on_each_pair} put the function
    into the test cases where it can run.
    """

    function: Callable[[Any], Any]
    needs: Needs


def needs(
    *each: Ability, first: tuple[Ability, ...] = (), second: tuple[Ability, ...] = ()
) -> Callable[[Callable[[Any], Any]], NeedingTest]:
    """Say what one test of a contract needs, beyond what the contract does; see L{Needs}."""
    return lambda function: NeedingTest(function, Needs(each, first, second))


class Handle:
    """A worker as a test moves it."""

    def __init__(self, worker: Worker, client: Client) -> None:
        self.name, self.sdk = worker.name, worker.sdk
        self.worker, self._client = worker, client

    def with_client(self, client: Client) -> Handle:
        return Handle(self.worker, client)

    def id(self, function: str) -> str:
        return f"{self.name}::{function}"

    async def do(self, function: str, **data: Any) -> Any:
        """Call one of the worker's own functions."""
        return await self._client.call(self.id(function), data)

    async def call(self, function_id: str, **request: Any) -> Any:
        """Have the worker call a function through its SDK.  Return its result; its error raises L{RemoteError}."""
        answer = await self.do("call", function_id=function_id, **request)
        if "error" in answer:
            raise RemoteError(answer["error"])
        return answer.get("result")

    async def received(self, key: str) -> list[Any]:
        """Return what came to the function C{receive} under this key."""
        received: list[Any] = (await self.do("received_by", key=key))["received"]
        return received


class Contract(Mixin):
    """
    A test with a client that calls functions.

    @cvar common_needs: What all tests of the contract need.
    @cvar in_table: It is about every SDK, and so has its rows in C{docs/sdk-versions.md}.
    """

    common_needs: ClassVar[Needs] = Needs()
    in_table: ClassVar[bool] = True
    client: Client

    @property
    def engine(self) -> EngineProcess:
        raise NotImplementedError

    def require(self, *sdks: Sdk) -> None:
        for sdk in sdks:
            if sdk.missing:
                raise SkipTest(f"{sdk.name}: {sdk.missing}")

    def unique(self, prefix: str) -> str:
        """Return a name that no other test uses: they share a stage."""
        return f"{prefix}-{uuid.uuid4().hex[:8]}"

    async def eventually(
        self, what: str, check: Callable[[], Awaitable[T]], seconds: float = 10.0, **options: Any
    ) -> T:
        return await eventually(reactor, what, check, seconds, **options)

    async def connect(self, engine: EngineProcess) -> Client:
        """Return a client of its own for this test."""
        client = await connect(reactor, engine.worker_port)
        self.addCleanup(client.close)
        return client

    async def start_worker(self, url: str, sdk: Sdk, name: str) -> Handle:
        """Start a worker that ends with the test.  The caller waits until it is ready."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        worker = Worker(reactor, sdk, name, directory)
        worker.start(url)
        self.addCleanup(worker.kill)
        return Handle(worker, self.client)

    async def request(self, method: str, path: str, **options: Any) -> Any:
        """Send an HTTP request to a route of a worker and return treq's response."""
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        return await HTTPClient(agent).request(method, self.engine.http_url + path, timeout=15, **options)


class OnStage(Contract):
    """
    A test on the common stage.

    @cvar theatre: Where that stage is.
    """

    theatre: ClassVar[Theatre] = theatre

    @property
    def engine(self) -> EngineProcess:
        return self._stage.engine

    async def enter(self, *sdks: Sdk) -> list[Handle]:
        """Return the handles of these SDKs' workers."""
        self.require(*sdks)
        self._stage = await self.theatre.enter(self, reactor)
        self.client = await self.connect(self._stage.engine)
        return [Handle(self._stage.workers[sdk], self.client) for sdk in sdks]


class OneSdk(OnStage):
    """A contract about the worker of one SDK."""

    sdk: Sdk

    async def setUp(self) -> None:
        (self.worker,) = await self.enter(self.sdk)


class PairOfSdks(OnStage):
    """A contract about workers of two SDKs, which may be the same one."""

    first: Sdk
    second: Sdk

    async def setUp(self) -> None:
        self.one, self.other = await self.enter(self.first, self.second)


class AllSdks(OnStage):
    """A contract about the workers of all SDKs that are there, at once."""

    sdks: tuple[Sdk, ...]

    async def setUp(self) -> None:
        self.workers = await self.enter(*(sdk for sdk in self.sdks if not sdk.missing))


def on_each_sdk(contract: type[Contract], sdks: Iterable[Sdk] = SDKS) -> dict[str, type[TestCase]]:
    """Return the contract's test cases, one per SDK, under the names they have in their module."""
    return _cases(contract, [((sdk,), {"sdk": sdk}) for sdk in sdks])


def on_each_pair(contract: type[Contract]) -> dict[str, type[TestCase]]:
    """Return the contract's test cases, one per ordered pair of SDKs in L{PAIRS}."""
    return _cases(contract, [((first, second), {"first": first, "second": second}) for first, second in PAIRS])


def on_all_sdks(contract: type[Contract]) -> dict[str, type[TestCase]]:
    """Return the contract's only test case, under the name it has in its module."""
    able = tuple(sdk for sdk in SDKS if contract.common_needs.met_by(sdk))
    case = _case(contract, able, {}, "all")
    return {case.__name__: case}


def _cases(
    contract: type[Contract], casts: Iterable[tuple[tuple[Sdk, ...], dict[str, Sdk]]]
) -> dict[str, type[TestCase]]:
    cases = [
        _case(contract, sdks, roles, "_".join(re.sub(r"\W", "_", sdk.name) for sdk in sdks))
        for sdks, roles in casts
        if contract.common_needs.met_by(*sdks)
    ]
    return {case.__name__: case for case in cases}


def _case(contract: type[Contract], sdks: tuple[Sdk, ...], roles: dict[str, Sdk], suffix: str) -> type[TestCase]:
    # zope.interface lists attributes of classes that cannot be read.
    needing = ((name, getattr(contract, name)) for name in dir(contract) if name.startswith("test"))
    tests = {
        name: test.function for name, test in needing if isinstance(test, NeedingTest) and test.needs.met_by(*sdks)
    }
    name = f"{contract.__name__.removesuffix('Contract')}_{suffix}"
    attributes = {"__module__": contract.__module__, "contract": contract, "sdks": sdks}
    return type(name, (contract, TestCase), {**attributes, **roles, **tests})
