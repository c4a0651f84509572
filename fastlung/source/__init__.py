"""
Where scans come from: folders, buckets, lists, archives and volumes.

Nouns: a *source* is what was named; a *source group* is the objects under one prefix, folder,
archive or list entry, the unit of work; an *index* says which series are in a group (`read`, one
place for every kind).
"""
