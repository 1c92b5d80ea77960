"""neoctl: one question or order to an admin node, and its printing."""
