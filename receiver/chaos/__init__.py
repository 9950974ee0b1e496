"""The proof: faults in a real service, a real Valkey and the network between them, while every event is counted.

``harness`` starts the processes, ``faults`` breaks them, ``simulator.load`` posts and records the acks in ``ack_log``,
and ``comparison`` compares these with the streams. The chaos tests and ``receiver prove`` use the same parts.
"""
