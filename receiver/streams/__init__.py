"""The event streams in Redis: their consumer groups, their metrics, and their trimming."""
