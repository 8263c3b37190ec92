"""Rules: the SMTP client protocol as bytes and meaning, without a socket."""
