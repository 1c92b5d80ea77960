"""The operator's door: follows the primary, and answers neoctl."""
