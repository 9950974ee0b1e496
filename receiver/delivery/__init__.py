"""Where events become safe: in Redis, else in the spool, else not at all. ``delivery`` decides the ack."""
