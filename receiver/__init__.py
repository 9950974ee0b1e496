"""The callback URL of production SMS traffic.

A provider POSTs status reports and replies, one or many at a time. The way of one callback, in ``web/callbacks``:

    authenticate  web/callback_auth
    admit         web/admission: bounds the work in progress
    read          web/bodies
    parse         providers: bytes → items → events, and rejections with their reasons
    envelope      events: event → stream entry; routing: event type → topic URN
    store         delivery: one Redis script for all callbacks that wait, else the spool on disk, else 503
    acknowledge   web/acks

Every topic URN is a Redis stream. ``lookups`` reads the same streams as one more consumer group, and answers queries
for sent messages and their reports through ``web/smn``. ``streams`` creates consumer groups and trims.
``web/documents`` describes the API. ``app`` wires all of it together, ``cli`` and ``runtime`` run it.
"""
