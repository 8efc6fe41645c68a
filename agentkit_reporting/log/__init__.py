"""The log on its way to the disk and back: writing and reading."""
