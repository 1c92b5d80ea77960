"""The client: a ZODB storage inside the application.

`Storage` is what applications use; `core` below it is plain Python without I/O.
"""
