"""Bytes by key: a local folder or a bucket, behind one protocol, and what is read ahead of them."""
