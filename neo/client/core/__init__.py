"""The client without I/O: what is asked of whom, and what became of it; client.py is the node."""
