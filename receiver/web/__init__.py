"""HTTP: callbacks in, lookups out, health and metrics for whoever operates it."""
