"""pytest fixtures: real Kubo daemons."""
