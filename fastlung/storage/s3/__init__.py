"""
A bucket of S3, or of a server that speaks it.

Nouns: *access* is session, credentials and region of a bucket; a *listing* is pages of keys side by
side; *read* and `store` move bytes, in parts where multipart pays; *retry* has the one loop around
every request, its backoff, and the limiter that all requests of a process to a bucket share.
"""
