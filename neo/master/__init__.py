"""The master: gives ids, orders commits, and decides who may serve."""
