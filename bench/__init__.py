"""Benchmarks of the engine, run by C{python -m bench}.  What the figures mean stands in C{README.md}."""
