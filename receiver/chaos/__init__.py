"""The proof: a real service, a real Valkey, a faulty network and a provider, broken on purpose while all is counted.

``harness`` sets the scene, ``faults`` breaks it, ``provider`` posts and remembers what was acknowledged, ``checker``
compares that with what is in the streams. The chaos tests and ``receiver prove`` use the same parts.
"""
