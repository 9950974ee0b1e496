"""The streams that events are in: their consumer groups, their gauges, and what is trimmed when."""
