"""Hands: files, sockets, processes, the resolver, the log. They touch the world and decide nothing."""
