"""`doctor`'s checks: each a function that looks at one thing and yields findings; they read only."""
