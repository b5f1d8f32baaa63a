"""The benchmarks: every detector on the same cuts of the same data, judged by one protocol.

A config says what is measured; a cell is one of its detectors with one seed. ``protocols`` cuts
the data, ``blind`` hides from a detector what it may not know, ``work`` fits and scores one cell,
``measure`` judges it, ``records`` keeps it, ``runner`` runs cells in processes of their own.
"""
