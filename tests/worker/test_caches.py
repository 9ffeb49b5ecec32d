from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from worker.caches import Caches
from worker.settings import SettingsInvalid, read_settings


def keep(path: Path, size: int, age: float) -> Path:
    """A file of some size that was last used so many seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "datasets", tmp_path / "compile-cache"


def test_the_least_recently_used_goes_first(folders: tuple[Path, Path]):
    data, compiled = folders
    oldest, middle, newest = keep(data / "a", 40, 300), keep(compiled / "b", 40, 200), keep(data / "c", 40, 100)
    assert Caches(folders, 120).evict() == []
    assert Caches(folders, 90).evict() == [oldest]
    assert Caches(folders, 10).evict() == [middle, newest]
    assert [*data.iterdir(), *compiled.iterdir()] == []


def test_a_folder_goes_as_one_and_is_as_young_as_its_youngest_file(folders: tuple[Path, Path]):
    data, _ = folders
    keep(data / "text" / "values.npy", 50, 300)
    keep(data / "text" / "manifest.json", 1, 10)
    os.utime(data / "text", (time.time() - 300, time.time() - 300))
    alone = keep(data / "alone", 50, 100)
    assert Caches(folders, 60).evict() == [alone]
    assert Caches(folders, 50).evict() == [data / "text"]


def test_what_a_running_attempt_uses_stays(folders: tuple[Path, Path]):
    data, _ = folders
    caches = Caches(folders, 0)
    old = keep(data / "old", 10, 100)
    with caches.in_use():
        used = keep(data / "used", 10, 0)
        with caches.in_use():
            assert caches.evict() == [old]
        assert caches.evict() == []
    assert caches.evict() == [used]


def test_folders_that_are_not_there_hold_nothing(tmp_path: Path):
    assert Caches([tmp_path / "none"], 0).evict() == []


def test_the_limit_is_a_setting():
    assert read_settings({"MESHYARD_CACHE_GIB": "0.5"}).cache_gib == 0.5
    for text in ("-1", "much", "nan"):
        with pytest.raises(SettingsInvalid, match=r"cache_gib|CACHE_GIB"):
            read_settings({"MESHYARD_CACHE_GIB": text})
