"""Which servers take the mail of an address: found out in parallel, believed in a fixed order, confirmed by a person."""
