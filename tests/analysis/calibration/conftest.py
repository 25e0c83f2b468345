"""The world of the tests of exports."""

from tests.analysis.exports.conftest import world

__all__ = ["world"]
