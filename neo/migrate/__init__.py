"""Copying and comparing histories: what neomigrate does."""
