"""Doors: arguments in, exit status out. Each file is one program; none of them decides anything about mail."""
