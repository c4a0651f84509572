"""What there is to read: groups of objects, in folders, lists, archives and volumes."""
