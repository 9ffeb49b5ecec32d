from __future__ import annotations

import pytest

from service.app import create_app
from tests.service.data.world import World

MEBIBYTE = 1024 * 1024


@pytest.fixture
def world(settings):
    """The service, with a small limit on uploads."""
    with World(create_app(settings.model_copy(update={"max_dataset_bytes": 8 * MEBIBYTE}))) as running:
        yield running
