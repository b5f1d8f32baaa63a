"""``oddlog serve``: takes lines from any collector, keeps alerts, shows them.

The way of a line: ``bodies`` unpacks a request, ``otlp``, ``loki`` or ``plain`` makes lines of it,
``journal`` writes them down before they are acknowledged.
"""
