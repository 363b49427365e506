"""Functions called at given times (spec/cron.md)."""
