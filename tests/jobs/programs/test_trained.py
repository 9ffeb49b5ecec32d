"""Trained models out of their checkpoints: loaded, asked for text, asked for predictions."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meshyard
from jobs.errors import UserFault
from jobs.ids import made_at
from jobs.programs import card, generation, prediction, trained
from jobs.programs.generation import Sampling
from meshyard.cli import run
from tests import specs
from tests.jobs.programs import running
from tests.jobs.programs.trained_models import JOB, outputs_of, save, train
from worker.checkpoint import restore_parameters

WORDS = "zero one two three"


@pytest.fixture(scope="module")
def language(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A language model of characters, trained on (4, 2)."""
    document = specs.on_mesh(specs.transformer(), "fsdp_tp", data=4, model=2)
    document["data"] = document["data"] | {"tokenizer": "char"}
    return train(document, text, tmp_path_factory.mktemp("language"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A classifier of points."""
    return train(specs.spirals(), None, tmp_path_factory.mktemp("classifier"))


def test_a_loaded_language_model_says_what_the_trained_one_did(language: Any) -> None:
    program, state, folder = language
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 10, (8, 16)))
    model = meshyard.load(folder)
    assert len(jax.tree.leaves(model)[0].devices()) == 1
    np.testing.assert_allclose(np.asarray(model(tokens)), outputs_of(program, state, tokens), atol=2e-5)
    np.testing.assert_array_equal(model(tokens), model(tokens))  # no dropout


@pytest.mark.parametrize("document", [specs.spirals(), specs.pictures()], ids=["mlp", "cnn"])
def test_a_loaded_network_says_what_the_trained_one_did(document: Any, pictures: Path, tmp_path: Path) -> None:
    program, state, folder = train(document, pictures if "dataset" in document["data"] else None, tmp_path)
    x = jnp.asarray(program.objective.source.gather(np.arange(1))["x"])
    np.testing.assert_array_equal(np.asarray(meshyard.load(str(folder))(x)), outputs_of(program, state, x))


def test_a_member_of_an_ensemble_is_loaded_with_its_average(tmp_path: Path) -> None:
    program, state, folder = train(specs.spirals(ensemble=2, ema={"decay": 0.5}), None, tmp_path)
    x = jnp.asarray(program.objective.source.gather(np.arange(4))["x"])
    for trial in range(2):
        kernel = state.sections["averaged"]["layers.0.kernel"][trial]
        model = meshyard.load(folder, trial=trial)
        np.testing.assert_array_equal(model.layers[0].kernel[...], kernel)
        assert model(x).shape == (4, 3)
    with pytest.raises(meshyard.MeshyardError, match="trial=0 to trial=1"):
        meshyard.load(folder)


def test_a_trial_is_for_ensembles(classifier: Any) -> None:
    with pytest.raises(meshyard.MeshyardError, match="no ensemble"):
        meshyard.load(classifier[2], trial=0)


def test_a_sampler_cannot_be_loaded(tmp_path: Path) -> None:
    program = running.build(specs.schools())
    folder = save(program, program.init(), tmp_path)
    with pytest.raises(meshyard.MeshyardError, match="sampling job: it has draws"):
        meshyard.load(folder)


def test_what_is_no_checkpoint_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(meshyard.MeshyardError, match=r"holds no card\.json"):
        meshyard.load(tmp_path)


def test_the_snippet_of_the_documents_gives_the_same_model(classifier: Any) -> None:
    program, state, folder = classifier
    page = (Path(__file__).parents[3] / "docs" / "checkpoints.md").read_text()
    snippet = page.split("## Use it with plain Flax")[1].split("```python")[1].split("```")[0]
    found: dict[str, Any] = {}
    exec(snippet.replace("/path/to/400", str(folder)), found)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)), jnp.float32)
    np.testing.assert_allclose(found["model"](x), outputs_of(program, state, x), atol=1e-6)


# -- a part of the parameters ----------------------------------------------------------------------------------------------------


def started_from(folder: Path, changes: dict[str, Any], **patterns: Any) -> Any:
    program = running.build(specs.spirals(model=specs.spirals()["model"] | changes))
    return program.init().sections["params"], restore_parameters(folder, program, **patterns).sections["params"]


def test_what_the_patterns_name_is_taken_and_the_rest_is_fresh(classifier: Any) -> None:
    _, state, folder = classifier
    fresh, found = started_from(folder, {"out_features": 5}, include=["layers.[01].*"], exclude=["*.0.bias"])
    taken = {"layers.0.kernel", "layers.1.kernel", "layers.1.bias"}
    for path, array in found.items():
        np.testing.assert_array_equal(array, state.sections["params"][path] if path in taken else fresh[path])


@pytest.mark.parametrize(
    ("changes", "patterns", "pointer", "named"),
    [
        ({"out_features": 5}, {"include": ["layers.*"]}, "/init_from/include", "layers.2.bias (3,) (here (5,))"),
        ({"hidden": [16]}, {"exclude": ["layers.1.*"]}, "/init_from/exclude", "the model has no layers.2.bias, layers.2.kernel"),
        ({"hidden": [16, 16, 3]}, {}, "/init_from", "the checkpoint has no layers.3.bias"),
    ],
)
def test_parameters_without_a_place_are_an_error(classifier: Any, changes: Any, patterns: Any, pointer: str, named: str) -> None:
    with pytest.raises(UserFault) as caught:
        started_from(classifier[2], changes, **patterns)
    assert (caught.value.code, caught.value.param) == ("init_from_mismatch", pointer)
    assert named in caught.value.message


# -- the card --------------------------------------------------------------------------------------------------------------------


def test_the_card_tells_what_the_model_is(classifier: Any, tmp_path: Path) -> None:
    program, state, _ = classifier
    folder = save(program, state, tmp_path, {"eval/loss": 0.5, "train/loss": 0.25})
    found = json.loads((folder / "card.json").read_text())
    assert {name: found[name] for name in ("job", "step", "kind", "seed", "metrics", "data")} == {
        "job": JOB, "step": 3, "kind": "train", "seed": 0, "metrics": {"eval/loss": 0.5, "train/loss": 0.25},
        "data": {"builtin": "spirals"},
    }  # fmt: skip
    assert found["parameters"] == {"count": 2 * 16 + 16 + 16 * 16 + 16 + 16 * 3 + 3, "bytes": 4 * 371, "dtypes": ["float32"]}
    assert found["submitted_at"] == made_at(JOB)
    text = (folder / "MODEL_CARD.md").read_text()
    assert "| eval/loss | 0.5 |" in text
    assert f'meshyard.load("{JOB}", step=3)' in text


def test_the_card_of_a_step_is_always_the_same(classifier: Any, tmp_path: Path) -> None:
    program, state, _ = classifier
    one, two = save(program, state, tmp_path / "one"), save(program, state, tmp_path / "two")
    for name in (card.CARD, card.FOR_PEOPLE):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_the_card_names_data_by_its_digest() -> None:
    program: Any = running.build(specs.regression())
    same = card.describe(JOB, program.spec, {"data": 1}, program.abstract(), {})
    dataset = {"id": "ds_1", "sha256": "0" * 64, "bytes": 5, "format": "csv", "key": "datasets/0"}
    assert card.with_data(same, dataset)["data"] == {"id": "ds_1", "sha256": "0" * 64, "bytes": 5, "format": "csv"}
    inline = card.with_data(same, None)["data"]
    assert len(inline["sha256"]) == 64
    assert "7.0" not in card.files(card.with_data(same, None), 1, {})[card.FOR_PEOPLE].decode().split("## Trained with")[1]


# -- text ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speaker(language: Any) -> trained.Trained:
    """The language model, loaded."""
    return trained.load(language[2])


def text_of(model: trained.Trained, prompt: str = WORDS, **sampling: Any) -> str:
    return "".join(generation.generate(model, prompt, Sampling(**{"count": 12, **sampling})))


def test_greedy_text_is_what_the_model_thinks_likeliest(speaker: trained.Trained) -> None:
    """Against the whole window computed anew for each token, without any padding."""
    codec = generation.codec_of(speaker)
    tokens = codec.encode("one two three")
    for _ in range(6):  # from shorter than the context of 16 to longer
        logits = np.asarray(speaker.module(jnp.asarray([tokens[-16:]])))[0, -1, : codec.size]
        tokens.append(int(logits.argmax()))
    assert text_of(speaker, "one two three", count=6, temperature=0.0) == "".join(codec.decode(tokens[13:]))


def test_draws_are_those_of_their_seed(speaker: trained.Trained) -> None:
    drawn = [text_of(speaker, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 12
    assert text_of(speaker, top_k=1) == text_of(speaker, temperature=0.0)


def test_a_step_is_compiled_once() -> None:
    traced = []

    def module(tokens: jax.Array) -> jax.Array:
        traced.append(tokens.shape)
        return jax.nn.one_hot((tokens + 1) % 8, 8)

    model = trained.Trained(module, {"resolved_spec": {"model": {"context": 4}}}, Path())  # pyright: ignore[reportArgumentType]
    drawn = list(generation.draw(model, [0, 1], Sampling(9, temperature=0.0), None))
    assert (drawn, traced) == ([2, 3, 4, 5, 6, 7, 0, 1, 2], [(1, 4)])


def test_tokens_without_a_meaning_are_never_drawn() -> None:
    model = trained.Trained(lambda _: jnp.zeros((1, 4, 8)), {"resolved_spec": {"model": {"context": 4}}}, Path())  # pyright: ignore[reportArgumentType]
    assert set(generation.draw(model, [0], Sampling(60), 3)) == {0, 1, 2}
    assert len(set(generation.draw(model, [0], Sampling(60, top_k=2), None))) > 2  # a tie is not broken by order


def test_bytes_become_characters_as_they_are_whole() -> None:
    codec = generation.Bytes()
    assert list(codec.decode("aä€".encode())) == ["a", "", "ä", "", "", "€", ""]
    assert "".join(codec.decode([0xFF, 0x61, 0xE2])) == "\ufffda\ufffd"
    assert codec.encode("ä") == [0xC3, 0xA4]


def test_a_prompt_of_strange_or_no_characters_is_refused(speaker: trained.Trained) -> None:
    with pytest.raises(trained.CannotLoad, match="never seen 'ß'"):
        text_of(speaker, "ß")
    with pytest.raises(trained.CannotLoad, match="prompt is empty"):
        text_of(speaker, "")


def test_a_vocabulary_that_has_gone_is_told(language: Any, tmp_path: Path) -> None:
    _, _, folder = language
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "vocabulary.json").unlink()
    with pytest.raises(trained.CannotLoad, match=r"vocabulary\.json is missing"):
        text_of(trained.load(tmp_path / "copy"))


# -- predictions -----------------------------------------------------------------------------------------------------------------


def test_rows_of_a_file_are_predicted(classifier: Any, tmp_path: Path) -> None:
    program, state, folder = classifier
    x = np.random.default_rng(1).uniform(-1, 1, (50, 2)).astype(np.float32)  # two whole batches and a part
    (tmp_path / "rows.csv").write_text("x2,name,x1\n" + "".join(f"{b},someone,{a}\n" for a, b in x.tolist()))
    found = prediction.predict_file(trained.load(folder), tmp_path / "rows.csv")
    expected = outputs_of(program, state, x)
    np.testing.assert_allclose(found["output"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["prediction"], expected.argmax(-1))
    np.testing.assert_allclose(found["probability"], np.asarray(jax.nn.softmax(expected)), rtol=1e-5)


def test_files_that_do_not_fit_are_refused(classifier: Any, tmp_path: Path) -> None:
    model = trained.load(classifier[2])
    (tmp_path / "rows.csv").write_text("x1,y\n1,2\n")
    with pytest.raises(trained.CannotLoad, match="no numeric column 'x2'"):
        prediction.predict_file(model, tmp_path / "rows.csv")
    (tmp_path / "rows.xls").touch()
    with pytest.raises(trained.CannotLoad, match="cannot be told"):
        prediction.predict_file(model, tmp_path / "rows.xls")


# -- the command line ------------------------------------------------------------------------------------------------------------


def test_generate_prints_the_prompt_and_what_follows(
    language: Any, speaker: trained.Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, expected = language[2], text_of(speaker, seed=1)
    assert run(["generate", str(folder), "--prompt", WORDS, "--tokens", "12", "--seed", "1"]) == 0
    assert capsys.readouterr().out == f"{WORDS}{expected}\n"
    assert run(["generate", str(folder), "--prompt", WORDS, "--tokens", "12", "--seed", "1", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"object": "generation", "job": JOB, "step": 3, "prompt": WORDS, "text": expected}


def test_generate_and_predict_refuse_each_other_s_models(
    language: Any, classifier: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("x1,x2\n1,2\n")
    assert run(["generate", str(classifier[2])]) == 1
    assert "use `meshyard predict`" in capsys.readouterr().err
    assert run(["predict", str(language[2]), str(tmp_path / "rows.csv")]) == 1
    assert "use `meshyard generate`" in capsys.readouterr().err


def test_predict_writes_what_is_asked_for(classifier: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, folder = classifier
    np.savez(tmp_path / "rows.npz", x1=np.asarray([0.5, -0.5]), x2=np.asarray([0.1, 0.2]))
    rows = str(tmp_path / "rows.npz")
    assert run(["predict", str(folder), rows]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(table[0]) == [f"{name}_{i}" for name in ("output", "probability") for i in range(3)] + ["prediction"]
    assert run(["predict", str(folder), rows, "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["prediction"] == [int(row["prediction"]) for row in table]
    for suffix in ("npz", "json", "csv"):
        assert run(["predict", str(folder), rows, "--to", str(tmp_path / f"out.{suffix}")]) == 0
    assert np.load(tmp_path / "out.npz")["output"].shape == (2, 3)
    assert json.loads((tmp_path / "out.json").read_text())["output"] == told["output"]
    assert run(["predict", str(folder), rows, "--to", str(tmp_path / "out.xls")]) == 2
