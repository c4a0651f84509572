"""
Outcomes and results for people: a *summary* (tables, CSV, sentences) and a *picture* (PNG bytes).

No file, no print.
"""
