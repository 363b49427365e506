"""Tests for L{iii.core.functions}."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.engine import Module
from iii.core.errors import NotFound
from iii.core.functions import BuiltinFunction, Caller, FunctionDeclaration, WorkerFunction
from tests.core.fakes import connect, make_engine


class Input(Struct):
    """The input of a test's function."""

    name: str = ""
    size: Annotated[int, Meta(ge=0)] | None = None


class Part(Struct):
    """A part of an output."""

    inputs: list[Input]


class WorkerFunctionTests(SynchronousTestCase):
    """Functions that workers serve."""

    def setUp(self) -> None:
        self.engine = make_engine(Clock())
        self.table = self.engine.functions
        self.a, self.b, self.c = (connect(self.engine, name) for name in "abc")

    def picks(self, count: int) -> str:
        """Return who is chosen for the next calls."""
        function = self.table.find("default", "f")
        assert isinstance(function, WorkerFunction)
        return "".join(function.pick().name or "?" for _ in range(count))

    def test_found(self) -> None:
        """A function is found in exactly its namespace."""
        self.a.register("f")
        self.assertIsNotNone(self.table.find("default", "f"))
        self.assertIsNone(self.table.find("orders", "f"))
        self.assertIsNone(self.table.find("default", "g"))

    def test_namespaces(self) -> None:
        """The namespaces that have an id are known, sorted."""
        for namespace in ("z", "a"):
            connect(self.engine, namespace=namespace).register("f")
        self.assertEqual(self.table.namespaces_of("f"), ["a", "z"])
        self.assertEqual(self.table.namespaces_of("g"), [])

    def test_order(self) -> None:
        """All functions come by id, then namespace."""
        self.a.register("b", "a")
        connect(self.engine, namespace="orders").register("a")
        self.assertEqual(
            [(function.id, function.namespace) for function in self.table],
            [("a", "default"), ("a", "orders"), ("b", "default")],
        )
        self.assertEqual(len(self.table), 3)

    def register_all(self) -> None:
        """Let all three serve the function, and show that they live."""
        for worker in (self.a, self.b, self.c):
            worker.register("f")
        for worker in (self.a, self.b):
            worker.connection.ponged()

    def test_in_turn(self) -> None:
        """Workers without calls are chosen in turn."""
        self.register_all()
        self.assertEqual(sorted(self.picks(3)), ["a", "b", "c"])
        self.assertEqual(self.picks(3), self.picks(3))

    def test_least_outstanding(self) -> None:
        """The worker with the fewest calls to answer is chosen, whichever functions they are for."""
        self.register_all()
        self.a.register("only_a")
        self.c.register("only_c")
        for function_id in ("only_a", "only_a", "only_c"):
            self.b.call(function_id)
        self.assertEqual(self.picks(3), "bbb")

    def test_suspect(self) -> None:
        """When another worker registers its function, a worker gets no calls of it until it has answered a ping."""
        self.a.register("f")
        self.b.register("f")
        self.assertEqual((self.a.edge.pings, self.b.edge.pings), (1, 0))
        self.assertEqual(self.picks(3), "bbb")
        self.a.connection.ponged()
        self.assertEqual(sorted(self.picks(2)), ["a", "b"])

    def test_all_suspect(self) -> None:
        """When all are in doubt, the newest is chosen."""
        self.a.register("f")
        self.b.register("f")
        self.b.connection.probe()
        self.assertEqual(self.picks(2), "bb")

    def test_only_suspect(self) -> None:
        """The only worker of a function is chosen, in doubt or not."""
        self.a.register("f", "g")
        self.b.register("g")
        self.assertEqual(self.picks(1), "a")

    def test_full(self) -> None:
        """A worker that does not read gets no calls as long as another one reads."""
        self.register_all()
        self.b.edge.full = True
        self.assertEqual(set(self.picks(6)), {"a", "c"})
        self.a.connection.probe()
        self.assertEqual(set(self.picks(6)), {"c"})
        self.c.edge.full = True
        self.assertEqual(set(self.picks(6)), {"b", "c"})

    def test_registered_again(self) -> None:
        """A worker that registers again replaces what it said, and no one is pinged."""
        self.a.register("f", description="old")
        self.a.register("f", description="new")
        function = self.table.find("default", "f")
        assert function is not None
        self.assertEqual((function.description, self.a.edge.pings), ("new", 0))
        self.assertEqual(self.picks(2), "aa")

    def test_latest(self) -> None:
        """What the newest owner said is shown; when it goes, what the one before it said."""
        self.a.register("f", description="of a", metadata={"n": 1})
        self.b.register("f", description="of b")
        function = self.table.find("default", "f")
        assert function is not None
        self.assertEqual(function.description, "of b")
        self.b.leave()
        self.assertEqual((function.description, bytes(function.metadata)), ("of a", b'{"n": 1}'))

    def test_unregistered(self) -> None:
        """A worker withdraws its own part in a function; what it does not serve it cannot withdraw."""
        self.a.register("f")
        self.b.register("f")
        self.c.send("unregisterfunction", id="f")
        self.b.send("unregisterfunction", id="f")
        self.assertEqual(self.picks(2), "aa")
        self.a.send("unregisterfunction", id="f")
        self.assertIsNone(self.table.find("default", "f"))

    def test_lost(self) -> None:
        """When a worker goes, the others go on."""
        self.a.register("f")
        self.b.register("f")
        self.a.leave()
        self.assertEqual(self.picks(2), "bb")
        self.b.leave()
        self.assertEqual(len(self.table), 0)

    def test_observers(self) -> None:
        """Observers are told when a function comes or goes, not when it gets or loses one of several owners."""
        told: list[tuple[str, str]] = []
        self.table.observers.append(lambda namespace, function_id: told.append((namespace, function_id)))
        self.a.register("f")
        self.a.register("f", description="new")
        self.b.register("f")
        self.assertEqual(told, [("default", "f")])
        self.a.leave()
        self.assertEqual(len(told), 1)
        self.b.send("unregisterfunction", id="f")
        self.assertEqual(told, [("default", "f")] * 2)


class BuiltinFunctionTests(SynchronousTestCase):
    """Functions that modules declare."""

    def setUp(self) -> None:
        self.engine = make_engine(Clock())
        self.worker = connect(self.engine, "w")

    def declare(self, handler: Any, function_id: str = "m::f", **members: Any) -> None:
        declaration = FunctionDeclaration(
            id=function_id, description="of a test", input=Input, handler=handler, **members
        )
        self.engine.add_module(Module("m", "iii-m", "a module", False), [declaration])

    def call(self, data: Any, function_id: str = "m::f") -> Any:
        return self.worker.outcome(self.worker.call(function_id, data))

    def test_result(self) -> None:
        """The handler gets the decoded input, and its result is the answer."""
        self.declare(lambda given, caller: {"name": given.name, "size": given.size})
        self.assertEqual(self.call({"name": "x", "size": 1}), {"name": "x", "size": 1})

    def test_leniency(self) -> None:
        """Unknown members are ignored, null ones absent."""
        self.declare(lambda given, caller: [given.name, given.size])
        self.assertEqual(self.call({"size": None, "other": 1}), ["", None])

    def test_no_result(self) -> None:
        """A handler that returns nothing is answered without a result; JSON null is a result."""
        self.declare(lambda given, caller: None)
        self.declare(lambda given, caller: Raw(b"null"), "m::null")
        self.worker.call("m::f", {})
        self.worker.call("m::null", {})
        answers = self.worker.received("invocationresult")
        self.assertNotIn("result", answers[0])
        self.assertIsNone(answers[1]["result"])

    def test_caller(self) -> None:
        """The handler knows the caller's connection, whatever the payload says, and the call's baggage."""
        callers: list[Caller] = []
        self.declare(lambda given, caller: callers.append(caller))
        self.worker.call("m::f", {"_caller_worker_id": "other"}, baggage="a=b")
        self.engine.call("m::f", Raw(b"{}"))
        self.assertIs(callers[0].connection, self.worker.connection)
        self.assertIn("a=b", callers[0].baggage or "")
        self.assertEqual(callers[1], Caller(None, None))

    def test_no_object(self) -> None:
        """What is no object is refused, naming the function and what came."""
        self.declare(lambda given, caller: None)
        for data in (None, [], 1, "text"):
            code, message = self.call(data)
            self.assertEqual(code, "deserialization_error")
            self.assertTrue(message.startswith("Failed to deserialize input for m::f: expected an object"), message)

    def test_wrong_input(self) -> None:
        """An object that does not fit is refused with the decoder's text, braces in it included."""
        self.declare(lambda given, caller: None)
        for data in ({"size": -1}, {"name": 1}, {"size": "{x}"}):
            code, message = self.call(data)
            self.assertEqual(code, "deserialization_error")
            self.assertIn("at `$.", message)

    def test_error(self) -> None:
        """An error that is meant for the caller reaches it."""

        def handler(given: Input, caller: Caller) -> None:
            raise NotFound("no {such} thing")

        self.declare(handler)
        self.assertEqual(self.call({}), ("NOT_FOUND", "no {such} thing"))

    def test_defect(self) -> None:
        """Any other exception is logged with its traceback, and the caller gets its id in the log."""

        def handler(given: Input, caller: Caller) -> None:
            raise ZeroDivisionError("secret")

        self.declare(handler)
        code, message = self.call({})
        self.assertEqual(code, "internal_error")
        self.assertNotIn("secret", message)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_defect_of_input(self) -> None:
        """So is an exception of the input's own code."""

        class Odd(Struct):
            def __post_init__(self) -> None:
                raise ZeroDivisionError

        declaration = FunctionDeclaration(id="m::f", description="", input=Odd, handler=lambda given, caller: None)
        self.engine.add_module(Module("m", "iii-m", "a module", False), [declaration])
        self.assertEqual(self.call({})[0], "internal_error")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_decoding_by_handler(self) -> None:
        """What a handler cannot decode, or nests too deeply, is its own defect, not the caller's."""
        for error in (msgspec.ValidationError("secret"), RecursionError("secret")):

            def handler(given: Input, caller: Caller, error: Exception = error) -> None:
                raise error

            self.declare(handler, f"m::{type(error).__name__}")
            code, message = self.call({}, f"m::{type(error).__name__}")
            self.assertEqual(code, "internal_error")
            self.assertNotIn("secret", message)
            self.assertEqual(len(self.flushLoggedErrors(type(error))), 1)

    def test_unencodable_result(self) -> None:
        """So is a result that is no JSON, now or later."""
        later: Deferred[object] = Deferred()
        self.declare(lambda given, caller: object())
        self.declare(lambda given, caller: later, "m::later")
        self.assertEqual(self.call({})[0], "internal_error")
        call = self.worker.call("m::later", {})
        later.callback(object())
        self.assertEqual(self.worker.outcome(call)[0], "internal_error")
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 2)

    def test_later(self) -> None:
        """A handler may answer later; calls are answered as they are ready."""
        waiting: dict[str, Deferred[str]] = {"a": Deferred(), "b": Deferred()}

        async def handler(given: Input, caller: Caller) -> str:
            return await waiting[given.name]

        self.declare(handler)
        calls = [self.worker.call("m::f", {"name": name}) for name in "ab"]
        waiting["b"].callback("B")
        self.assertEqual(self.worker.outcome(calls[1]), "B")
        waiting["a"].callback("A")
        self.assertEqual(self.worker.outcome(calls[0]), "A")

    def test_later_failure(self) -> None:
        """Errors and defects of a handler that answers later are treated as those of others."""
        failures: list[Exception] = [NotFound("no"), ZeroDivisionError("secret")]

        async def handler(given: Input, caller: Caller) -> None:
            raise failures.pop(0)

        self.declare(handler)
        self.assertEqual(self.call({}), ("NOT_FOUND", "no"))
        self.assertEqual(self.call({})[0], "internal_error")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_passed_on(self) -> None:
        """The error of a call that a handler makes, and does not treat, is the answer, as the callee gave it."""
        self.worker.register("f")

        async def handler(given: Input, caller: Caller) -> Raw:
            return await self.engine.call("f", Raw(b"1"))

        self.declare(handler)
        waiting = self.worker.call("m::f", {})
        error = {"code": "c", "message": "m", "stacktrace": "s"}
        self.worker.answer(self.worker.received("invokefunction")[0], error=error)
        (answer,) = (each for each in self.worker.received("invocationresult") if each["invocation_id"] == waiting)
        self.assertEqual(answer["error"], error)

    def test_caller_gone(self) -> None:
        """An answer for a worker that has gone is dropped."""
        later: Deferred[str] = Deferred()
        self.declare(lambda given, caller: later)
        self.worker.call("m::f", {})
        self.worker.leave()
        later.callback("late")
        self.assertEqual(self.worker.received("invocationresult"), [])

    def test_never_replaced(self) -> None:
        """A worker cannot register a function that a module has, and is told so."""
        self.declare(lambda given, caller: "the module's")
        self.worker.register("m::f")
        self.assertEqual(
            self.worker.received("registrationrejected"),
            [
                {
                    "code": "FUNCTION_NAMESPACE_CONFLICT",
                    "namespace": "default",
                    "function_id": "m::f",
                    "owner_worker_id": "",
                }
            ],
        )
        self.assertEqual(self.call({}), "the module's")
        self.worker.leave()
        self.assertIsNotNone(self.engine.functions.find("default", "m::f"))

    def test_declared_twice(self) -> None:
        """Two modules that declare one function are a defect."""
        self.declare(lambda given, caller: None)
        self.assertRaises(ValueError, self.declare, lambda given, caller: None)

    def test_schemas(self) -> None:
        """Schemas are generated; the properties stand at the top and parts are defined beside them."""
        declaration = FunctionDeclaration(
            id="f", description="", input=Input, handler=lambda given, caller: None, output=Part
        )
        function = BuiltinFunction(declaration, "iii-m")
        schema = function.schema("input")
        assert schema is not None
        self.assertEqual(set(schema["properties"]), {"name", "size"})
        self.assertNotIn("definitions", schema)
        schema = function.schema("output")
        assert schema is not None
        self.assertEqual(schema["properties"]["inputs"]["items"], {"$ref": "#/definitions/Input"})
        self.assertEqual(set(schema["definitions"]), {"Input"})

    def test_other_schemas(self) -> None:
        """An output that is no object has a schema, too; without a declared output there is none."""
        for output, expected in ((None, None), (list[int], {"type": "array", "items": {"type": "integer"}})):
            declaration = FunctionDeclaration(
                id="f", description="", input=Input, handler=lambda given, caller: None, output=output
            )
            self.assertEqual(BuiltinFunction(declaration, "iii-m").schema("output"), expected)

    def test_encoded_once(self) -> None:
        """A result may be JSON text already."""
        self.declare(lambda given, caller: Raw(msgspec.json.encode({"a": 1})))
        self.assertEqual(self.call({}), {"a": 1})
