"""Rules: the bytes of a message, its header, its form on the wire, its report."""
