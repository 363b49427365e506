"""The iii engine: HTTP routes, queues, cron, pub/sub, state and streams for functions of worker processes."""

__version__ = "0.1.0"
