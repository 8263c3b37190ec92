"""Work: the rules of `policy`, `smtp` and `message` and the hands of `system`, put in order."""
