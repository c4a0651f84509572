"""Folders of files that hold their own names."""

from fastlung.storage import LocalStore


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return LocalStore(root)
