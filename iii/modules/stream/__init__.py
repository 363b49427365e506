"""Streams: items that workers change and that browsers see change (spec/stream.md)."""
