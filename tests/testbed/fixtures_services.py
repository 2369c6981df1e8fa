"""pytest fixtures: real services (docker, systemd, sshd, HTTP)."""
