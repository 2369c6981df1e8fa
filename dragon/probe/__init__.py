"""What runs here: the catalogue of services, the evidence for each, and the prober that watches them.

In: facts of this machine (sockets, processes, units, containers) and answers of local ports. Out: `Survey` values.
Nothing from the network enters.
"""

from dragon.probe.apitest import TestResult, test_service
from dragon.probe.catalogue import Catalogue, catalogue_of, load_catalogue
from dragon.probe.entry import CatalogueEntry, Evidence
from dragon.probe.prober import Prober
from dragon.probe.survey import Finding, Survey

__all__ = [
    "Catalogue",
    "CatalogueEntry",
    "Evidence",
    "Finding",
    "Prober",
    "Survey",
    "TestResult",
    "catalogue_of",
    "load_catalogue",
    "test_service",
]
