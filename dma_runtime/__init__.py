"""The mail agent: takes mail from programs, keeps it safe on disk, and delivers it."""

__version__ = "0.1.0"
