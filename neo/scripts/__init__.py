"""The commands: one main() each."""
