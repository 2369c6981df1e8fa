"""Stations, their files and their readers, as processes of their own."""

from tests.unit.astroport.conftest import ipfs, zen

__all__ = ["ipfs", "zen"]
