"""Settings of other mail programs, read: one module a program. They read text, decide nothing and write nothing."""
