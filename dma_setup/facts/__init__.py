"""Read-only probes of the machine, run in parallel under one deadline."""
