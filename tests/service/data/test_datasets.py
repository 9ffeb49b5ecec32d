from __future__ import annotations

import hashlib
import io
import json
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select

from jobs.spec.dataset import DatasetFacts, TextFacts
from service.db.tables import datasets as table
from service.domain import datasets
from service.domain.errors import DatasetInvalid
from service.domain.inspection import inspect
from service.domain.inspection.lines import BLOCK_BYTES
from service.storage.local import PARTS

TEXT = "Wer reitet so spät durch Nacht und Wind?\n" * 50


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def packed(**members):
    """A zip of raw members, compressed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npy(header, data=b""):
    text = repr(header).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def parquet(**columns):
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, write_page_checksum=True, row_group_size=1000)
    return stream.getvalue()


def flipped(content, at):
    changed = bytearray(content)
    changed[at] ^= 0xFF
    return bytes(changed)


GOOD = {
    "text": TEXT.encode(),
    "npz": npz(x=np.arange(12.0, dtype=np.float32).reshape(4, 3), y=np.array([0, 1, 2, 1])),
    "csv": b"height,name,ok\n1.5,anna,true\n,otto,false\n2,eva,true\n",
    "jsonl": b'{"a": 1, "b": "x"}\n{"a": 2.5}\n\n{"a": null, "b": "y", "c": [1, 2]}\n',
    "parquet": parquet(a=[1, 2, None], b=["x", "y", "z"], c=[1.0, float("nan"), float("inf")]),
}

WORDS = {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "so": 1, "ja": 4}}
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [{"id": 7, "content": "<end>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                      "special": True}],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": WORDS,
}  # fmt: skip
GOOD["tokenizer"] = json.dumps(TOKENIZER).encode()


def examples(*records):
    """An ArrayRecord file: bytes as they are, arrays as `numpy.savez` writes them."""
    from array_record.python.array_record_module import ArrayRecordWriter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for record in records:
            writer.write(record if isinstance(record, bytes) else npz(**record))
        writer.close()
        return path.read_bytes()


EXAMPLES = [{"x": np.array([n, 2.0]), "y": np.int32(n % 2)} for n in range(5)]
GOOD["arrayrecord"] = examples(*EXAMPLES)

BAD = {
    "arrayrecord": {
        "empty": b"",
        "no records": examples(),
        "cut": GOOD["arrayrecord"][:-1],
        "flipped": flipped(GOOD["arrayrecord"], 70),
        "a late record that is no text": examples(b"a", b"b", b"\xff"),
        "other names": examples({"x": np.arange(2)}, {"z": np.arange(2)}),
        "bomb": examples(packed(**{f"{i}.npy": np.zeros(10_000_000, np.uint8).tobytes() for i in range(4)})),
    },
    "tokenizer": {
        "empty": b"",
        "text": b"a text",
        "no object": b"[1]",
        "deep": b"[" * 100_000,
        "no model": json.dumps({**TOKENIZER, "model": None}).encode(),
        "another model": json.dumps({**TOKENIZER, "model": WORDS | {"type": "Words"}}).encode(),
        "cut": GOOD["tokenizer"][:-1],
        "not utf-8": GOOD["tokenizer"].replace(b"so", b"\xff"),
        "no words": json.dumps({**TOKENIZER, "added_tokens": [], "model": WORDS | {"vocab": {}}}).encode(),
        "numbers too large": json.dumps({**TOKENIZER, "model": WORDS | {"vocab": {"?": 2**31}}}).encode(),
        "negative numbers": json.dumps({**TOKENIZER, "model": WORDS | {"vocab": {"?": -1}}}).encode(),
        "merges of nothing": json.dumps({**TOKENIZER, "model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}).encode(),
        "a normalizer that is none": json.dumps({**TOKENIZER, "normalizer": {"type": "Lower?"}}).encode(),
    },
    "text": {
        "empty": b"",
        "latin-1": "spät".encode("latin-1"),
        "cut": "spät".encode()[:-2],
        "binary": npz(x=np.arange(5)),
        "surrogate": b"a\xed\xa0\x80b",
        "overlong": b"\xc0\xaf",
    },
    "npz": {
        "empty": b"",
        "text": b"not a zip at all",
        "no members": npz(),
        "cut": GOOD["npz"][:-1],
        "half": GOOD["npz"][: len(GOOD["npz"]) // 2],
        "flipped data": flipped(GOOD["npz"], 200),
        "pickle": npz(x=np.array([{"a": 1}], dtype=object)),
        "empty array": npz(x=np.zeros((0, 3))),
        "complex": npz(x=np.zeros(3, np.complex64)),
        "structured": npz(x=np.zeros(3, [("a", "i4")])),
        "not an array": packed(**{"readme.txt": b"hello"}),
        "array without data": packed(**{"x.npy": npy({"descr": "<f8", "fortran_order": False, "shape": (1000,)})}),
        "negative shape": packed(**{"x.npy": npy({"descr": "<f8", "fortran_order": False, "shape": (-1,)}, b"12345678")}),
        "absurd shape": packed(**{"x.npy": npy({"descr": "<f8", "fortran_order": False, "shape": (2**62, 2**62)})}),
        "header of calls": packed(**{"x.npy": npy({"descr": "__import__('os')", "fortran_order": False, "shape": ()})}),
        "deep header": packed(**{"x.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", 3000) + b"-" * 2999 + b"1"}),
        "odd header": packed(**{"x.npy": npy({"descr": 5, "shape": "x"})}),
        "unknown version": packed(**{"x.npy": b"\x93NUMPY\x09\x00\x10\x00"}),
        "bomb": packed(**{f"{i}.npy": np.zeros(10_000_000, np.uint8).tobytes() for i in range(4)}),
        "too many": packed(**{f"{i}.npy": npy({"descr": "|u1", "fortran_order": False, "shape": (1,)}, b"x") for i in range(1001)}),
    },
    "csv": {
        "empty": b"",
        "header only": b"a,b\n",
        "too few fields": b"a,b\n1,2\n3\n",
        "too many fields": b"a,b\n1,2\n3,4,5\n",
        "cut": b"a,b\n1,2\n" * 3 + b"7",
        "open quote": b'a,b\n"1,2\n3,4\n',
        "not utf-8": b"a,b\n1,\xff\n",
        "not utf-8 name": b"\xff,b\n1,2\n",
        "same name": b"a,a\n1,2\n",
        "nul in a name": b"a\x00,b\n1,2\n",
        "huge line": b"a\n" + b"x" * 4_000_000 + b"\n",
        "blank": b"\n\n\n",
        "too few late": b"a,b\n" + b"1,2\n" * 400_000 + b"3\n",
    },
    "jsonl": {
        "empty": b"",
        "blank": b"\n \n",
        "cut": b'{"a": 1}\n{"a": ',
        "array": b'{"a": 1}\n[1]\n',
        "number": b"5\n",
        "mixed types": b'{"a": 1}\n{"a": "x"}\n',
        "same key": b'{"a": 1, "a": 2}\n',
        "no fields": b"{}\n{}\n",
        "not utf-8": b'{"a": "\xff"}\n',
        "deep": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        "deep objects": b'{"a": ' * 100_000 + b"1" + b"}" * 100_000 + b"\n",
        "deep and cut": b'{"a":' + b"[" * 500_000 + b"\n",
        "huge line": b'{"a": "' + b"x" * 2_000_000 + b'"}\n',
        "a document over lines": b'{\n"a": 1\n}\n',
    },
    "parquet": {
        "empty": b"",
        "text": b"PAR1 but no more",
        "cut": GOOD["parquet"][:-10],
        "half": GOOD["parquet"][: len(GOOD["parquet"]) // 2],
        "flipped data": flipped(GOOD["parquet"], 40),
        "no rows": parquet(a=pa.array([], pa.int64())),
        "csv": GOOD["csv"],
        "bomb": parquet(a=np.zeros(6_000_000)),
    },
}


def upload(world, form, content, query=""):
    return world.post(f"/v1/datasets?format={form}{query}", content=content)


def left_behind(world):
    """Rows, files and parts that are there."""
    with world.write() as write:
        rows = write.connection.execute(select(func.count()).select_from(table)).scalar_one()
    folder = world.store.shared_folder()
    kept = list((folder / "datasets").iterdir()) if (folder / "datasets").exists() else []
    return rows, len(kept), len(list((folder / PARTS).iterdir()))


@pytest.mark.parametrize("form", GOOD)
def test_a_good_file_is_kept_and_given_back(world, form):
    reply = upload(world, form, GOOD[form], "&name=mine")
    assert reply.status_code == 201, reply.text
    made = reply.json()
    assert reply.headers["location"] == f"/v1/datasets/{made['id']}"
    assert (made["object"], made["name"], made["format"], made["bytes"]) == ("dataset", "mine", form, len(GOOD[form]))
    assert made["sha256"] == hashlib.sha256(GOOD[form]).hexdigest()
    assert world.get(f"/v1/datasets/{made['id']}").json() == made
    assert world.get(f"/v1/datasets/{made['id']}/content").content == GOOD[form]
    assert left_behind(world) == (1, 1, 0)


def columns(world, form):
    made = upload(world, form, GOOD[form]).json()
    keys = ("dtype", "shape", "minimum", "maximum", "missing")
    return made["rows"], {column["name"]: tuple(column[key] for key in keys) for column in made["columns"]}


def test_what_is_told_of_a_text(world):
    made = upload(world, "text", GOOD["text"]).json()
    assert made["text"] == {"characters": len(TEXT), "distinct_characters": len(set(TEXT)), "max_byte": max(TEXT.encode())}
    assert (made["rows"], made["columns"]) == (None, [])


def test_what_is_told_of_arrays(world):
    assert columns(world, "npz") == (4, {"x": ("float32", [4, 3], 0.0, 11.0, 0), "y": ("int64", [4], 0.0, 2.0, 0)})


def test_what_is_told_of_a_csv(world):
    assert columns(world, "csv") == (
        3,
        {
            "height": ("float64", [3], 1.5, 2.0, 1),
            "name": ("string", [3], None, None, 0),
            "ok": ("bool", [3], 0.0, 1.0, 0),
        },
    )


def test_what_is_told_of_json_lines(world):
    assert columns(world, "jsonl") == (
        3,
        {
            "a": ("float64", [3], 1.0, 2.5, 1),
            "b": ("string", [3], None, None, 1),
            "c": ("int64", [3, 2], 1.0, 2.0, 2),
        },
    )


def test_what_is_told_of_parquet(world):
    assert columns(world, "parquet") == (
        3,
        {
            "a": ("int64", [3], 1.0, 2.0, 1),
            "b": ("string", [3], None, None, 0),
            "c": ("float64", [3], 1.0, 1.0, 1),
        },
    )


def test_what_is_told_of_records(world):
    assert columns(world, "arrayrecord") == (5, {"x": ("float64", [5, 2], 0.0, 4.0, 0), "y": ("int32", [5], 0.0, 1.0, 0)})
    texts = upload(world, "arrayrecord", examples(b"one", b"zwei")).json()
    assert (texts["rows"], [(column["name"], column["dtype"]) for column in texts["columns"]]) == (2, [("text", "string")])
    odd = upload(world, "arrayrecord", examples({"x": np.arange(2)}, {"x": np.arange(3)})).json()["columns"][0]
    assert (odd["dtype"], odd["odd_row"], odd["odd"].split(" where")[0]) == ("ragged", 2, "int64 of shape [3]")


def test_what_is_told_of_a_tokenizer(world):
    made = upload(world, "tokenizer", GOOD["tokenizer"]).json()
    assert made["tokenizer"] == {"model": "WordLevel", "vocab_size": 5}
    assert (made["rows"], made["columns"], made["text"]) == (None, [], None)


def told(form: Any, content):
    facts = inspect(form, io.BytesIO(content), 10**9)
    return {column.name: (column.dtype, column.minimum, column.maximum, column.missing) for column in facts.columns}


def test_a_csv_column_may_change_its_kind_late():
    ints = b"1\n" * 600_000
    assert told("csv", b"a\n" + ints + b"2.5\n") == {"a": ("float64", 1.0, 2.5, 0)}
    assert told("csv", b"a\n" + ints + b"x\n") == {"a": ("string", None, None, 0)}
    assert told("csv", b"a,b\n" + b",1\n" * 600_000 + b"7,1\n") == {"a": ("int64", 7.0, 7.0, 600_000), "b": ("int64", 1.0, 1.0, 0)}
    assert told("csv", b"a\nfalse\ntrue\n1\n") == {"a": ("bool", 0.0, 1.0, 0)}
    assert told("csv", b"\xef\xbb\xbfa\r\n-1\r\n\r\n+3\r\n") == told("csv", b"a\n-1\n+3\n")


def test_a_json_field_may_come_late():
    content = b'{"a": 1}\n' * 1_200_000 + b'{"a": 2, "b": 0.5}\n'
    assert told("jsonl", content) == {"a": ("int64", 1.0, 2.0, 0), "b": ("float64", 0.5, 0.5, 1_200_000)}


def test_a_json_field_may_not_change_its_kind():
    line = b'{"a": 1' + b" " * 23 + b"}\n"
    block = line * (BLOCK_BYTES // len(line))
    assert len(block) == BLOCK_BYTES
    with pytest.raises(DatasetInvalid, match="different types"):
        told("jsonl", block + b'{"a": "x"}\n')
    with pytest.raises(DatasetInvalid, match="line 2: "):
        told("jsonl", b'{"a": 1}\n{"a": "x"}\n')


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_types_are_those_that_a_whole_read_gives(form):
    """A worker reads the file whole with pyarrow; the service, which reads it in pieces, must not tell another story."""
    import pyarrow.csv
    import pyarrow.json

    rows = [{"i": i, "f": i / 2, "b": i % 2 == 0, "s": f"t{i}", "n": None if i % 3 else i, "z": None} for i in range(5000)]
    if form == "csv":
        lines = ["i,f,b,s,n,z", *(",".join("" if v is None else str(v).lower() for v in row.values()) for row in rows)]
        content = "\n".join(lines).encode()
        whole = pyarrow.csv.read_csv(io.BytesIO(content))
    elif form == "jsonl":
        content = "\n".join(json.dumps(row) for row in rows).encode()
        whole = pyarrow.json.read_json(io.BytesIO(content))
    else:
        content = parquet(**{name: [row[name] for row in rows] for name in rows[0]})
        whole = pq.read_table(io.BytesIO(content))
    for name, (dtype, *_) in told(form, content).items():
        kind = whole.schema.field(name).type
        expected = str(np.dtype(kind.to_pandas_dtype())) if pa.types.is_primitive(kind) else "string"
        assert dtype == expected, name


@pytest.mark.parametrize("form", BAD)
def test_a_bad_file_is_refused_and_nothing_is_kept(world, subtests, form):
    for name, content in BAD[form].items():
        with subtests.test(name):
            reply = upload(world, form, content)
            assert (reply.status_code, reply.json()["code"]) == (422, "dataset_invalid"), reply.text
            assert len(reply.json()["detail"]) > 20
            assert left_behind(world) == (0, 0, 0)


@pytest.mark.parametrize(
    ("content", "place"),
    [(b"a,b\n1,2\n3\n", "line 3 has 1 fields"), (b"a,b\r\n1,2\r\n\r\n3,4,5\r\n", "line 4 has 3 fields")],
)
def test_the_line_of_a_bad_row_is_told(world, content, place):
    assert place in upload(world, "csv", content).json()["detail"]


def test_no_damage_of_a_good_file_gives_a_fault_of_ours():
    """Whatever byte is changed or wherever the file is cut, it is read or refused."""
    random = np.random.default_rng(7)
    for form, content in GOOD.items():
        if form == "arrayrecord":
            continue  # read by a process of its own, which may even die of it
        spots = random.integers(0, len(content), 120)
        for at in spots:
            for damaged in (flipped(content, at), content[:at], content[:at] + content[at + 1 :]):
                try:
                    inspect(cast("Any", form), io.BytesIO(damaged), 10**7)
                except DatasetInvalid:
                    continue


def test_the_same_bytes_in_the_same_format_are_the_same_dataset(world):
    first = upload(world, "text", b"a,b\n1,2\n", "&name=one")
    again = upload(world, "text", b"a,b\n1,2\n", "&name=two")
    other = upload(world, "csv", b"a,b\n1,2\n")
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert again.json() == first.json()
    assert other.json()["id"] != first.json()["id"]
    assert left_behind(world) == (2, 1, 0)


def test_sending_the_bytes_again_mends_a_damaged_file(world):
    made = upload(world, "text", b"hello").json()
    (world.store.shared_folder() / "datasets" / made["sha256"]).write_bytes(b"hellO")
    assert world.get(f"/v1/datasets/{made['id']}/content").json()["code"] == "content_corrupt"
    assert upload(world, "text", b"hello").status_code == 200
    assert world.get(f"/v1/datasets/{made['id']}/content").content == b"hello"


def test_a_bad_file_does_not_take_the_good_dataset_of_the_same_bytes_along(world):
    made = upload(world, "text", b"no csv\n1,2\n").json()
    assert upload(world, "csv", b"no csv\n1,2\n").status_code == 422
    assert world.get(f"/v1/datasets/{made['id']}/content").content == b"no csv\n1,2\n"
    assert left_behind(world) == (1, 1, 0)


def test_too_much_is_refused_before_and_while_it_comes(world):
    limit = world.context.settings.max_dataset_bytes
    assert upload(world, "text", b"a" * limit).status_code == 201
    announced = upload(world, "text", b"a" * (limit + 1))
    assert (announced.status_code, announced.json()["code"]) == (413, "too_large")

    async def chunks():
        for _ in range(9):
            yield b"a" * (limit // 8)

    assert upload(world, "text", chunks()).status_code == 413
    assert left_behind(world) == (1, 1, 0)


def test_a_client_that_goes_away_leaves_nothing(world):
    body = {"type": "http.request", "body": b"a" * 3_000_000, "more_body": True}
    reply = world.call("POST", "/v1/datasets?format=text", [body, {"type": "http.disconnect"}])
    assert reply.status in (None, 422)
    assert left_behind(world) == (0, 0, 0)


def test_a_body_in_small_pieces_is_taken(world):
    pieces = [{"type": "http.request", "body": bytes([byte]), "more_body": True} for byte in b"hello"]
    reply = world.call("POST", "/v1/datasets?format=text", [*pieces, {"type": "http.request", "body": b""}])
    assert (reply.status, json.loads(reply.body)["bytes"]) == (201, 5)


def test_a_compressed_body_is_refused(world):
    assert world.post("/v1/datasets?format=text", content=b"x", headers={"Content-Encoding": "gzip"}).status_code == 415
    assert left_behind(world) == (0, 0, 0)


def test_a_wrong_query_is_refused(world, subtests):
    for query in ("", "format=xml", "format=text&name=", "format=text&name=%00", "format=text&name=" + "n" * 201):
        with subtests.test(query):
            assert world.post(f"/v1/datasets?{query}", content=b"x").status_code == 422
    assert left_behind(world) == (0, 0, 0)


def test_datasets_are_listed_newest_first(world):
    made = [upload(world, "text", text.encode()).json()["id"] for text in "abc"]
    first = world.get("/v1/datasets?limit=2").json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == ([made[2], made[1]], True)
    last = world.get(f"/v1/datasets?limit=2&after={first['next']}").json()
    assert ([one["id"] for one in last["data"]], last["has_more"], last["next"]) == ([made[0]], False, None)


def test_an_unknown_dataset_is_not_found(world, subtests):
    for name in ("ds_" + "0" * 32, "ds_1", "job_" + "0" * 32, "%00", "..%2f..%2fetc%2fpasswd"):
        with subtests.test(name):
            assert world.get(f"/v1/datasets/{name}").status_code == 404
            assert world.get(f"/v1/datasets/{name}/content").status_code == 404


def test_facts_for_a_spec(world):
    made = upload(world, "text", GOOD["text"]).json()
    with world.write() as write:
        facts = datasets.facts(write.connection, "default", made["id"])
        assert datasets.facts(write.connection, "default", "ds_" + "0" * 32) is None
        assert datasets.facts(write.connection, "another", made["id"]) is None
    text = TextFacts(len(TEXT.encode()), len(TEXT), len(set(TEXT)), max(TEXT.encode()))
    assert facts == DatasetFacts(made["id"], "text", len(TEXT.encode()), None, [], text)
