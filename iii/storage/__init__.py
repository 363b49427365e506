"""Where data is kept: one SQLite file, memory, or Redis (DESIGN.md, 7)."""
