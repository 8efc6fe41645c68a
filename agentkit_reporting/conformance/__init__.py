"""The event contract (DESIGN section 3) as a check of logs: `check_log`.

Independent of the loop: what a session has open, and its transcript, are folded here a second time, from the
events alone. One pass; what is held is what is open, and of each session and each of its items a short note.

book: what the rules know of a session. runs, exchanges, requests, calls, transcript, digests: the rules, one area each.
session: they together. numbers: which events of a session count. check: whole logs.
"""
