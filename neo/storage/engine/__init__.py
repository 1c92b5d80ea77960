"""The database below a storage: one interface, several engines, one conformance suite."""
