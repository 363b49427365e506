"""A worker in Python: `pip install iii-sdk`, then `python worker.py`."""

import os

from iii import register_worker

worker = register_worker(os.environ.get("III_URL", "ws://localhost:49134"))


async def greet(request):
    name = request["path_params"]["name"]
    if name == "all":
        counted = await worker.trigger_async({"function_id": "hello::count", "payload": {"names": ["Ada", "Alan"]}})
        return {"status_code": 200, "body": {"message": f"Hello, all {counted['count']}!"}}
    return {"status_code": 200, "body": {"message": f"Hello, {name}!"}}


worker.register_function("hello::greet", greet)
worker.register_trigger(
    {
        "type": "http",
        "function_id": "hello::greet",
        "config": {"api_path": "hello/:name", "http_method": "GET"},
    }
)
