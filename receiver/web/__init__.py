"""The HTTP layer: callbacks, lookups, and health and metrics for operators."""
