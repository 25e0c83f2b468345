from __future__ import annotations

import pytest

from tests.analysis.saturation.planted import Planted, planted_run


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return planted_run(tmp_path_factory.mktemp("planted"))
