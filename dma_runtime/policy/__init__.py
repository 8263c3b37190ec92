"""Rules: what should be done. Pure functions; the clock and the dice are arguments."""
