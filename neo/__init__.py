"""NEO: a distributed, redundant, transactional storage for ZODB."""
