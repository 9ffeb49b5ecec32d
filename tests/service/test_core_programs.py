"""Regressions over uploaded tables: settled when they are submitted, and the program behind them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from jobs.spec.program.document import read_program
from tests.service.core_driver import Api, assert_problem, sampling

ROWS = [("01", 1, 1.5, "true"), ("02", 2, 2.5, "false"), ("01", 3, 2.0, "true"), ("03", 2, 4.5, "true"), ("02", 1, 3.0, "false")]
TABLE = "school,age,score,late\n" + "".join(f'"{school}",{age},{score},{late}\n' for school, age, score, late in ROWS)


def _parquet() -> bytes:
    schools, ages, scores, late = (list(column) for column in zip(*ROWS, strict=True))
    table = pa.table({"school": schools, "age": ages, "score": scores, "late": [value == "true" for value in late]})
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()


def _lines() -> bytes:
    rows = [f'{{"school": "{school}", "age": {age}, "score": {score}, "late": {late}}}' for school, age, score, late in ROWS]
    return "\n".join(rows).encode()


def _upload(api: Api, form: str) -> str:
    content = {"csv": TABLE.encode(), "parquet": _parquet(), "jsonl": _lines()}[form]
    return api.post(f"/v1/datasets?format={form}", content=content).json()["id"]


def _glm(dataset: str, formula: str = "score ~ C(age) + late + (1 | who)", **changes: Any) -> dict[str, Any]:
    data = {"dataset": dataset, "args": {"who": "school"}}
    return sampling(model={"type": "glm", "formula": formula, **changes}, data=data)


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_a_table_of_any_format_settles_the_same_model(api: Api, form: str):
    job = api.submit(_glm(_upload(api, form)))
    design = job["resolved_spec"]["model"]["design"]
    assert design["columns"] == ["C(age)[T.2]", "C(age)[T.3]", "late"]
    assert design["means"] == pytest.approx([0.4, 0.2, 0.6])
    # A CSV says of nothing that it is text: what looks like numbers is numbers.
    assert design["groups"][0]["levels"] == ([[1], [2], [3]] if form == "csv" else [["01"], ["02"], ["03"]])


def test_the_program_of_a_formula_can_be_read(api: Api):
    job = api.submit(_glm(_upload(api, "parquet")))
    found = api.get(f"/v1/jobs/{job['id']}/program").json()
    assert found["object"] == "program"
    assert found["job"] == job["id"]
    assert found["design"] == job["resolved_spec"]["model"]["design"]
    assert found["model"]["type"] == "program"
    assert read_program(found["model"])[1] == []
    assert {statement.get("deterministic") for statement in found["model"]["body"]} >= {"Intercept", "late", "sd_who__Intercept"}


def test_a_job_without_a_program_says_so(api: Api):
    reply = api.get(f"/v1/jobs/{api.submit()['id']}/program")
    assert assert_problem(reply, 409)["code"] == "no_program"
    assert_problem(api.get("/v1/jobs/job_none/program"), 404)


def test_a_wrong_formula_is_refused_with_its_column(api: Api):
    problem = assert_problem(api.post("/v1/jobs", json=_glm(_upload(api, "csv"), "score ~ age + heigth + (1 | who)")), 422)
    (error,) = problem["errors"]
    assert (error["pointer"], error["code"]) == ("/model/formula", "unknown_column")
    assert error["detail"].startswith("column 15: the data has no column")


def test_validation_settles_the_model_too(api: Api):
    dataset = _upload(api, "csv")
    assert api.post("/v1/jobs:validate", json=_glm(dataset)).json()["valid"]
    refused = api.post("/v1/jobs:validate", json=_glm(dataset, "log(score - 2) ~ age + (1 | who)")).json()
    assert [(error["pointer"], error["code"]) for error in refused["errors"]] == [("/model/formula", "out_of_range")]


def test_a_file_of_the_services_own_machine_is_read_too(start: Any, tmp_path: Path):
    (tmp_path / "table.csv").write_text(TABLE)
    with start(data_uris=str(tmp_path)) as api:
        document = _glm("") | {"data": {"uri": f"file://{tmp_path}/table.csv", "args": {"who": "school"}}}
        assert api.post("/v1/jobs:validate", json=document).json()["valid"]
        job = api.submit(document)
        assert job["resolved_spec"]["data"]["dataset"].startswith("ds_")
        assert job["resolved_spec"]["model"]["design"]["columns"][0] == "C(age)[T.2]"
