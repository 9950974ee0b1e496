"""Simulated providers: ``receiver simulate``, and the load of ``receiver prove``."""
