"""Input that no correct peer sends, by the million: ``python -m tests.property.fuzz --inputs 1000000``."""
