"""The provisioning tool: look, ask, try, show, apply, prove, leave a note."""
