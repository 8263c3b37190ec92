"""One module a verb: `plan(step, view) -> list[Change]`; it compares what is with what should be."""
