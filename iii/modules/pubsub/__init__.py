"""Fire-and-forget topics: the function C{publish} and the trigger type C{subscribe} (spec/pubsub.md)."""
