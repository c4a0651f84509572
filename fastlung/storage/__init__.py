"""
Bytes by key, in a local folder or a bucket.

Nouns: a *store* is a root behind one protocol (`base`), opened by URL (`open`); an *object* has a
key, a size and an ETag; the *fetcher* prefetches objects in threads; the *cache* folder keeps what
one user's runs share.
"""
