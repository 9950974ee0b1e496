"""The callback URL of production SMS traffic.

A provider POSTs batches of status reports and single replies. The way of one callback:

    web/callbacks      who is it?  reads the body, decides the answer
    providers/tencent  bytes → items → events, and rejections with their reasons
    routing            event type → topic URN
    delivery           one Redis script for all that wait, else the spool on disk, else 503
    web/callbacks      the ack, only now

Every topic URN is a Redis stream. ``lookups`` reads the same streams as any other consumer group and answers what was
sent and what became of it, through ``web/smn``. ``web/documents`` describes both. ``app`` wires all of it together;
``cli`` runs it.
"""
