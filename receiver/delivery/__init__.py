"""Makes events safe in Redis, else in the spool; ``delivery`` decides the ack."""
