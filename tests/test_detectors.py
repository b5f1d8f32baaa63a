import sys

import pytest

from oddlog.detectors import DETECTORS, EXTRAS, detector_class
from oddlog.errors import ConfigError


@pytest.mark.parametrize(("package", "extra"), EXTRAS.items())
def test_a_missing_package_is_answered_with_the_extra_that_brings_it(package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(DETECTORS, "in_need", f"{package}:Anything")
    with pytest.raises(ConfigError, match=rf"{package}: pip install 'oddlog\[{extra}\]'"):
        detector_class("in_need")


def test_another_missing_package_is_no_matter_of_extras(monkeypatch):
    monkeypatch.setitem(DETECTORS, "broken", "no_such_package_at_all:Anything")
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
        detector_class("broken")


def test_an_unknown_detector_is_answered_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"no detector named 'magic'.*counts"):
        detector_class("magic")
