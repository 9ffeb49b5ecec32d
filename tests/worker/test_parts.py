"""Small parts of the agent, each by itself."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from jobs.errors import InfraFault
from worker import devices
from worker.child import LineBreaker, _step_in, clean_environment, reproducible
from worker.diagnosis import Tail
from worker.discovery import Found, NoDevices, expect, numbers
from worker.machine import host_memory_bytes
from worker.messages import End, Metrics, Misspoken, read
from worker.orders import Graces, Orders
from worker.pool import Pool
from worker.room import NoRoom, Room
from worker.settings import Settings, SettingsInvalid, parse_labels, read_settings
from worker.transfer import Digests, Mismatch, below, files_below, measure_plain


def test_settings_come_from_the_environment():
    found = read_settings(
        {
            "MESHYARD_SERVER": "https://lab:1",
            "MESHYARD_API_KEY": "k",
            "MESHYARD_CPU_DEVICES": "8",
            "MESHYARD_LABELS": "a=b, c=d=e",
            "MESHYARD_SLOTS": "2",
            "MESHYARD_WORK_DIR": "/w",
            "MESHYARD_PLATFORM": "",
            "PATH": "/bin",
        }
    )
    assert found == Settings("https://lab:1", "k", 8, {"a": "b", "c": "d=e"}, 2, Path("/w"))
    assert "k" not in repr(found).replace("work", "")


@pytest.mark.parametrize("text", ["a", "=b", "a=b,c"])
def test_labels_need_a_name_and_a_value(text):
    with pytest.raises(SettingsInvalid):
        parse_labels([text])


def test_a_label_that_the_service_would_refuse_is_refused_here():
    with pytest.raises(SettingsInvalid):
        Settings(labels={"a": "b" * 190})


def test_virtual_cpu_devices_and_another_platform_exclude_each_other():
    with pytest.raises(SettingsInvalid):
        Settings(cpu_devices=8, platform="cuda")


def test_children_get_a_clean_environment():
    found = clean_environment({"MESHYARD_API_KEY": "k", "MESHYARD_DATABASE_URL": "d", "PATH": "/bin", "PYTHONHASHSEED": "7"}, "cpu")
    told = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "PYTHONHASHSEED": "0"}
    assert found == {"PATH": "/bin", "JAX_PLATFORMS": "cpu", "XLA_CLIENT_MEM_FRACTION": "0.9", **told}


def test_children_on_an_accelerator_have_the_cpu_beside_it():
    assert clean_environment({}, "cuda")["JAX_PLATFORMS"] == "cuda,cpu"
    assert "JAX_PLATFORMS" not in clean_environment({}, None)


@pytest.mark.parametrize("name", ["XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"])
def test_an_operators_part_of_the_memory_is_the_only_one(name: str):
    found = clean_environment({name: "0.5"}, None)
    assert {key: value for key, value in found.items() if "FRACTION" in key} == {name: "0.5"}


def test_children_on_a_gpu_are_told_to_be_reproducible_unless_an_operator_has_said_otherwise():
    assert reproducible({"XLA_FLAGS": "--a"}, "gpu")["XLA_FLAGS"] == "--a --xla_gpu_deterministic_ops=true"
    for platform, flags in (("gpu", "--xla_gpu_deterministic_ops=false"), ("cpu", "--a"), ("tpu", "--a")):
        assert reproducible({"XLA_FLAGS": flags}, platform) == {"XLA_FLAGS": flags}
    assert reproducible({}, "gpu") == {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}


def test_a_worker_that_was_to_have_an_accelerator_does_not_start_without():
    found = Found(platform="cpu", device_kind="cpu", count=1, memory_bytes=1, versions={})
    with pytest.raises(NoDevices, match="JAX finds CPUs alone"):
        expect(found, "cuda")
    for platform in (None, "cpu"):
        expect(found, platform)


def test_an_accelerator_that_cannot_be_opened_is_no_cpu():
    with pytest.raises(InfraFault) as caught:
        devices.require({"platform": "cpu"}, [0])
    assert caught.value.code == "worker_lost"
    devices.require({"platform": "gpu"}, [0])
    devices.require({"platform": "cpu"}, None)


def test_every_device_is_lent_to_one_job_at_a_time():
    pool = Pool(8, 3)
    first, second = pool.take(3), pool.take(4)
    assert (first, second) == ([0, 1, 2], [3, 4, 5, 6])
    assert pool.take(2) is None
    assert pool.free == 1
    pool.give_back([0, 1, 2])
    assert pool.take(4) == [0, 1, 2, 7]


def test_more_slots_than_devices_are_refused():
    with pytest.raises(NoDevices, match="cannot share"):
        Pool(2, 3)


@pytest.mark.parametrize(
    ("platform", "visible", "slots", "expected"),
    [
        ("cpu", None, 2, None),
        ("gpu", None, 2, [0, 1]),
        ("gpu", "5,7", 2, [5, 7]),
        ("gpu", "GPU-1a,GPU-2b", 1, None),
    ],
)
def test_devices_keep_the_numbers_that_the_operator_left_visible(platform, visible, slots, expected):
    found = Found(platform=platform, device_kind="x", count=2, memory_bytes=0, versions={})
    environment = {"CUDA_VISIBLE_DEVICES": visible} if visible else {}
    assert numbers(found, environment, slots) == expected


def test_slots_cannot_share_devices_without_numbers():
    found = Found(platform="gpu", device_kind="x", count=2, memory_bytes=0, versions={})
    with pytest.raises(NoDevices):
        numbers(found, {"CUDA_VISIBLE_DEVICES": "GPU-1a,GPU-2b"}, 2)


def test_memory_is_what_the_control_group_allows(tmp_path):
    limit = tmp_path / "memory.max"
    limit.write_text("4096\n")
    assert host_memory_bytes(limit) == 4096
    limit.write_text("max\n")
    assert host_memory_bytes(limit) == host_memory_bytes(tmp_path / "absent") > 4096


def test_a_room_has_one_owner_and_starts_without_leftovers(tmp_path):
    first = Room.take(tmp_path)
    (first.scratch("att_1") / "left").write_text("over")
    second = Room.take(tmp_path)
    assert (first.folder.name, second.folder.name) == ("0", "1")
    first.close()
    again = Room.take(tmp_path)
    assert again.folder.name == "0"
    assert not (again.folder / "scratch").exists()


def test_a_work_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NoRoom):
        Room.take(tmp_path / "file" / "below")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", ".."])
def test_a_path_never_leads_out_of_its_folder(path):
    with pytest.raises(Mismatch):
        below(Path("/folder"), path)


def test_files_are_listed_in_order_and_links_left_out(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2").write_text("")
    (tmp_path / "a").write_text("")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert files_below(tmp_path) == ["a", "b/2"]


def test_a_digest_is_known_only_while_the_file_stays_the_same(tmp_path):
    path, digests = tmp_path / "data", Digests()
    path.write_bytes(b"one")
    first = asyncio.run(digests.of(path))
    (tmp_path / "new").write_bytes(b"two")
    (tmp_path / "new").replace(path)
    assert asyncio.run(digests.of(path)) != first


def test_lines_are_broken_only_where_they_grow_too_long():
    breaker = LineBreaker(10)
    assert breaker.feed("short\n") == "short\n"
    assert breaker.feed("0123456") == "0123456"
    assert breaker.feed("789abcdefghijklmno\nshort") == "789\nabcdefghij\nklmno\nshort"
    assert breaker.feed("er\n") == "er\n"


def test_the_tail_holds_the_last_lines_and_the_one_that_is_open():
    tail = Tail(3)
    for piece in ("1\n2\n\n3", "3\n4\n", "open"):
        tail.feed(piece)
    assert tail.text == "2\n33\n4\nopen"


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b'{"type": "unknown"}', b'{"type": "progress", "step": -1}', b'{"type": "progress", "step": 1, "more": 2}',
     b'{"type": "metrics", "steps": [1], "values": {"a": [true]}}', b'{"type": "metrics", "steps": [1], "values": {"\\n": [1]}}',
     b'{"type": "metrics", "steps": [1], "values": {"a": [NaN]}}',
     b'{"type": "metrics", "steps": [1, 2], "values": {"a": [1]}}', b"\xff"],
)  # fmt: skip
def test_a_line_that_is_no_message_is_refused(line):
    with pytest.raises(Misspoken):
        read(line)


def test_messages_are_read():
    metrics = read(b'{"type": "metrics", "steps": [1, 2], "labels": {"chain": "0"}, "values": {"a": [1, 2], "b": ["Infinity", 0]}}')
    assert isinstance(metrics, Metrics)
    assert metrics.values == {"a": [1.0, 2.0], "b": ["Infinity", 0.0]}
    end = read(b'{"type": "end", "ending": "failed", "step": 3, "error": {"code": "oom", "message": "a\\u0000b", "param": null}}')
    assert isinstance(end, End)
    assert end.error is not None
    assert end.error.message == "a\ufffdb"


class Child:
    """Records what reaches a child."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.killed = asyncio.Event()

    def orders(self, **graces: float) -> Orders:
        return Orders(lambda message: self.heard.append(message["command"]), self.killed.set, Graces(**graces))


def test_commands_wait_for_the_start_and_keep_their_order():
    async def main() -> None:
        child = Child()
        orders = child.orders()
        orders.give("checkpoint", save=True, sequence=4)
        orders.give("pause", save=True, sequence=5)
        assert child.heard == []
        orders.begin()
        assert child.heard == ["checkpoint", "pause"]
        assert (orders.handled("checkpoint"), orders.handled("pause"), orders.handled("cancel")) == (4, 5, 0)
        orders.close()

    asyncio.run(main())


def test_a_weaker_word_to_stop_does_not_replace_a_stronger_one():
    async def main() -> None:
        child = Child()
        orders = child.orders()
        orders.begin()
        for command in ("drain", "pause", "drain", "cancel", "pause"):
            orders.give(command, save=True)
        assert child.heard == ["drain", "pause", "cancel"]
        assert orders.ending == "cancelled"
        orders.close()

    asyncio.run(main())


def test_a_child_that_begins_to_save_gets_the_time_for_it():
    async def main() -> None:
        child = Child()
        orders = child.orders(react_seconds=0.05, save_seconds=3600)
        orders.begin()
        orders.give("pause", save=True)
        orders.hear_phase("checkpointing")
        hurried = Child()
        others = hurried.orders(react_seconds=0.05, save_seconds=3600)
        others.begin()
        others.hurry()
        others.give("drain", save=True)
        others.hear_phase("checkpointing")
        await hurried.killed.wait()
        assert others.overdue
        assert not child.killed.is_set()
        orders.close()

    asyncio.run(main())


def test_a_mark_that_is_no_step_is_none(tmp_path):
    for text, step in ((b"\x07" + bytes(7), 7), (b"\xff" * 8, 0), (b"", 0)):
        (tmp_path / "mark").write_bytes(text)
        descriptor = os.open(tmp_path / "mark", os.O_RDONLY)
        assert _step_in(descriptor) == step
        os.close(descriptor)


def test_no_link_is_followed_to_what_a_child_has_written(tmp_path) -> None:
    directory, other = tmp_path / "own", tmp_path / "other"
    (directory / "checkpoints" / "3").mkdir(parents=True)
    other.mkdir()
    (other / "secret").write_text("secret")
    (directory / "checkpoints" / "3" / "plain").write_text("plain")
    (directory / "checkpoints" / "3" / "file").symlink_to(other / "secret")
    (directory / "checkpoints" / "4").symlink_to(other)
    os.mkfifo(directory / "checkpoints" / "3" / "pipe")
    assert measure_plain(directory, "checkpoints/3/plain", durable=True)[0] == 5
    for path in ("checkpoints/3/file", "checkpoints/4/secret"):
        with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
            measure_plain(directory, path, durable=True)
    for path in ("checkpoints/3/pipe", "../other/secret"):
        with pytest.raises(Mismatch):
            measure_plain(directory, path, durable=True)
