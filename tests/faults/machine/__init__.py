"""The fault machine: the real processes under load, fault after fault, and every word to every client checked.

``python -m tests.faults.machine faults`` (or ``soak``, ``short``) ends in a table faults x outcomes.
"""
