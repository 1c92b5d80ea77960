"""Storages: keep objects and transactions, with their history, in a database."""
