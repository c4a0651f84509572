"""
Where results go.

Nouns: a *name* is a scan's folder in the sink; an *outcome* is the record of one series, a
*record* that of one group; the *commit* writes the record last; *contents* is what is there
already; the *manifest* is the table of all series; a *format* turns arrays into named bytes.
"""
