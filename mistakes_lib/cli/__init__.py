"""The command line: ``mistakes``."""
