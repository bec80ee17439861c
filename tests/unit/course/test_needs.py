"""What a chapter needs and is not here is named, with the way to get it."""

from __future__ import annotations

from podlab.course import needs


def test_packages_that_are_not_installed_are_missing_and_others_are_not() -> None:
    assert needs.missing({"packages": ["json", "no_such_package_here"]}) == ["no_such_package_here"]
    assert needs.missing({}) == []


def test_programs_and_packages_are_got_in_different_ways() -> None:
    told = needs.told(["prometheus", "pyspark"])
    assert "podlab binaries ensure prometheus" in told and "pip install pyspark" in told
    assert "binaries" not in needs.told(["pyspark"])
