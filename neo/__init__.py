"""NEO: a distributed, redundant, transactional storage for ZODB."""
__version__ = '2.0.dev0'
