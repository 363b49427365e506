"""Queues: named ones and durable topics (spec/queue.md)."""
