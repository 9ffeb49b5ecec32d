"""Eight virtual devices, settled before JAX starts, and the data of the tests that use them: for a folder's conftest to import."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from tests import specs

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", str(specs.COMPILE_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file."""
    return specs.write_text(tmp_path_factory.mktemp("data") / "text.txt")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of small pictures with labels."""
    return specs.write_pictures(tmp_path_factory.mktemp("data") / "pictures.npz")
