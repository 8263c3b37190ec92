"""The doors of setup: one verb a module; each registers its parser and binds its function."""
