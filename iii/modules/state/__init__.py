"""Values under scope and key, and triggers that hear of their changes (spec/state.md)."""
