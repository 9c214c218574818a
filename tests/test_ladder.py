"""Laws of the ladder: its shapes, its tokenizer, its batches, its training, and its checkpoints."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaForCausalLM

from sparsestudy import models, paths
from sparsestudy.architecture import Architecture
from sparsestudy.calibration import prompts_of
from sparsestudy.errors import StudyError
from sparsestudy.fidelity_parameters import FidelityParameters
from sparsestudy.ladder import stored, table
from sparsestudy.ladder.__main__ import main
from sparsestudy.ladder.card import describe
from sparsestudy.ladder.checkpoint import note, save
from sparsestudy.ladder.curve import exact
from sparsestudy.ladder.data import Batch, Batches, encoded
from sparsestudy.ladder.drill import ASKED, PAIRS, VARIABLES, drilled
from sparsestudy.ladder.forward import Forward
from sparsestudy.ladder.initial import initial
from sparsestudy.ladder.mixture import MIXTURE, NAMES, Variant, reply, variants
from sparsestudy.ladder.run import SCHEDULE, Request, card, recipe_of, run, score_folder
from sparsestudy.ladder.rungs import CONTEXT, NANO, RUNGS
from sparsestudy.ladder.schedule import FEW, MANY, Schedule, Stage
from sparsestudy.ladder.score import SCORED
from sparsestudy.ladder.stored import Stored, store
from sparsestudy.ladder.tokenizer import Twin, build, identity
from sparsestudy.ladder.train import Recipe, Trained, factor, train
from sparsestudy.ladder.vocabulary import EOS, LARGEST, PAD, UNKNOWN, words
from sparsestudy.parameters import AccuracyParameters
from sparsestudy.specs import TaskSpec
from sparsestudy.tasks.prompt import encode
from sparsestudy.weights import manifest

MIB = 2**20
VARIANTS = st.sampled_from(MIXTURE)
LENGTHS = st.integers(200, 900)


@cache
def tokenizer() -> Any:
    return build(CONTEXT)


@cache
def twin() -> Twin:
    return Twin()


def small(tasks: tuple[str, ...] = NAMES, seed: int = 0, length: int = 256) -> Batches:
    """Batches of 2,048 tokens."""
    return Batches(Schedule((Stage(length, 0.1), Stage(2 * length, 0.1))), seed, tasks, MANY // 2048)


def test_five_rungs_in_steps_of_two_that_fit_a_clone() -> None:
    sizes = [rung.architecture.parameters for rung in RUNGS.values()]
    assert len(sizes) == 5
    assert all(1.9 < larger / smaller <= 2.05 for smaller, larger in pairwise(sizes))
    assert 2 * sum(sizes) < 26 * MIB
    assert 2 * max(sizes) < 15 * MIB


@pytest.mark.parametrize("rung", [*RUNGS.values(), NANO], ids=lambda rung: rung.name)
def test_a_rung_is_the_model_that_its_cost_is_computed_for(rung: Any) -> None:
    assert Architecture.of(rung.config()) == rung.architecture
    assert LlamaForCausalLM(rung.config()).num_parameters() == rung.architecture.parameters
    assert rung.heads * rung.head_dim > max(rung.inner, rung.hidden)


def test_every_neighbor_can_be_matched_in_cost_from_4k_on() -> None:
    found = list(table.pairs())
    assert {pair.length for pair in found} == set(table.LENGTHS)
    assert all(pair.prefill >= 0.1 and pair.decode >= 0.1 for pair in found if pair.length >= 4096)
    text = table.show()
    assert all(name in text for name in RUNGS)


def test_the_vocabulary_is_closed_and_each_token_once() -> None:
    assert len(words()) == len(set(words())) <= LARGEST
    assert len(tokenizer()) == len(words())


@settings(deadline=None, max_examples=60)
@given(
    VARIANTS, LENGTHS, st.integers(0, 10**6), st.sampled_from(["train", "calibration", "eval"]), st.booleans()
)
def test_text_and_ids_are_two_forms_of_one_prompt(
    variant: Variant, length: int, index: int, split: Any, before: bool
) -> None:
    """The library and its fast twin agree, nothing is unknown, and joining the tokens gives the text back."""
    task = variant.build()
    task = type(task)(**{"pool": "ladder", "question": "both" if before else "after", **variant.fields})
    try:
        sample = task.sample(tokenizer(), length, index, 1, split)
    except StudyError as error:
        # The facts of some variants do not fit the shortest lengths; then neither form has a prompt.
        with pytest.raises(StudyError, match=re.escape(str(error))):
            task.sample(twin(), length, index, 1, split)
        return
    assert task.sample(twin(), length, index, 1, split) == sample
    text = sample.prompt + reply(task, sample)
    ids = tokenizer()(text)["input_ids"]
    assert twin().ids(text, begin=True) == ids
    assert identity(UNKNOWN) not in ids
    back = tokenizer().decode(ids, skip_special_tokens=True)
    assert back.removeprefix(" ") == text.replace("\n\n", "\n")
    coded = encode(tokenizer(), sample)
    assert tokenizer().decode(coded.ids[: coded.tail], skip_special_tokens=True).split() == (
        sample.prompt[: sample.context_end].split()
    )
    for (start, stop), (a, b) in zip(coded.evidence, sample.evidence, strict=len(sample.evidence) <= 128):
        if len(sample.evidence) <= 128:
            assert tokenizer().decode(coded.ids[start:stop]).split() == sample.prompt[a:b].split()


@pytest.mark.parametrize("name", [*ASKED, PAIRS, VARIABLES])
@pytest.mark.parametrize("length", [128, 512])
def test_a_drill_asks_about_many_facts_and_every_answer_stands_in_its_text(name: str, length: int) -> None:
    """What is asked twice has one answer, and it is the one that the text gives first."""
    for index in range(8):
        row = drilled(twin(), name, length, index, 0)
        assert row == drilled(twin(), name, length, index, 0)
        assert len(row.ids) <= length
        assert len(row.replies) >= length // 128
        told: dict[tuple[int, ...], list[int]] = {}
        stop = row.replies[0][0] - 2
        for start, end in row.replies:
            asked, value = tuple(row.ids[stop:start]), row.ids[start:end]
            assert told.setdefault(asked, value) == value
            assert set(value) <= {*row.ids[: row.replies[0][0]], identity("."), identity(",")}
            stop = end


@settings(deadline=None, max_examples=40)
@given(VARIANTS, LENGTHS, st.integers(0, 10**6))
def test_a_reply_is_right_complete_and_fits_its_room(variant: Variant, length: int, index: int) -> None:
    task = variant.build()
    sample = task.sample(twin(), length, index, 0, "train")
    text = reply(task, sample)
    assert task.score(sample, text).value == 1
    assert task.done(text)
    ids = twin().ids(text)
    assert len(ids) < variant.room
    assert task.score(sample, tokenizer().decode(ids)).value == 1


def test_the_tokenizer_is_written_and_read_again(tmp_path: Path) -> None:
    assert main(["tokenizer", "--out", str(tmp_path)]) == 0
    read = AutoTokenizer.from_pretrained(tmp_path)
    text = "Chapter 123: Rowan met Olga.\n\nVariable QXR = 98116. 4821, 7"
    assert read(text)["input_ids"] == tokenizer()(text)["input_ids"]
    assert read.convert_ids_to_tokens(read(" 123 98116 4821")["input_ids"])[1:] == [
        " 1", "23", " 9", "81", "16", " 48", "21",
    ]  # fmt: skip
    assert (read.pad_token_id, read.bos_token_id, read.eos_token_id) == (0, 1, 2)


@pytest.mark.parametrize("name", NAMES)
def test_every_task_fits_the_shortest_text_nearly_always(name: str) -> None:
    first, task = variants(name)[0]
    rows = 0
    for index in range(40):
        try:
            encoded(task, 128 - first.room, index, 0)
        except StudyError:
            continue
        rows += 1
    assert rows >= 38


def test_a_batch_depends_on_its_number_and_the_seed_alone() -> None:
    one, other = small(), small(seed=1)
    for number in (0, 5, len(one) - 1):
        a, b = one[number], small()[number]
        assert np.array_equal(a.ids, b.ids)
        assert np.array_equal(a.context, b.context)
        assert a.labels == b.labels
        assert not np.array_equal(a.ids[:4, :64], other[number].ids[:4, :64])
    assert (
        one.total
        == sum(one.tokens(i) for i in range(len(one)))
        == sum(one[i].ids.size for i in range(len(one)))
    )


def test_a_batch_holds_the_prompts_and_replies_of_the_text_path() -> None:
    """What is assembled as ids is what the tokenizer makes of the same samples."""
    batches = small(("needle", "story_multihop"))
    batch = batches[3]
    end, pad = identity(EOS), identity(PAD)
    for row, label in zip(batch.ids.tolist(), batch.labels, strict=True):
        stop = row.index(end)
        assert set(row[stop + 1 :]) <= {pad}
        text = tokenizer().decode(row[:stop], skip_special_tokens=True)
        assert tokenizer()(text)["input_ids"] == row[:stop]
        variant = next(variant for variant in MIXTURE if variant.label == label)
        told = text[text.rindex("Answer") :]
        assert all(value in told for value in variant.build().find(text).split(", "))


def test_learned_positions_are_the_replies_and_a_share_of_the_text() -> None:
    batch = small()[0]
    flat = batch.ids.reshape(-1)
    for row in range(len(batch.ids)):
        own = batch.answers[batch.rows == row]
        assert np.array_equal(own, np.arange(own[0], own[-1] + 1))
        assert flat[own[-1] + 1] == identity(EOS)
        assert own[0] // batch.length == row
    assert not set(batch.context) & set(batch.answers)
    assert (flat[batch.context + 1] != identity(PAD)).all()
    assert 0.15 < len(batch.context) / batch.ids.size < 0.3


def test_the_schedule_grows_and_says_what_it_is() -> None:
    assert Schedule.parse(str(SCHEDULE), SCHEDULE.short) == SCHEDULE
    assert SCHEDULE.stages[-1].length == CONTEXT
    batches = Batches(replace(SCHEDULE, short=512), 0)
    tokens = [batches.tokens(end - 1) for end in batches.schedule.ends]
    assert tokens == [FEW if length <= 512 else MANY for length, *_ in SCHEDULE.stages]
    millions = sum(millions for _, millions, _ in SCHEDULE.stages)
    assert abs(batches.total / 1e6 - millions) < 1
    for wrong in ("128", "256:1,128:1", "100:1", "a:b", ""):
        with pytest.raises(StudyError):
            Schedule.parse(wrong)


def test_the_forward_pass_is_that_of_transformers() -> None:
    model = initial(replace(NANO, layers=3), 0)
    ids = torch.randint(4, 1400, (3, 96))
    with torch.no_grad():
        own, theirs = Forward(model, compiled=False)(ids), model.model(ids).last_hidden_state
        logits = Forward(model, compiled=False).logits(own, torch.arange(5))
        assert torch.allclose(own, theirs.flatten(0, 1), atol=2e-5)
        assert torch.allclose(logits, model(ids).logits.flatten(0, 1)[:5], atol=2e-5)


def test_an_answer_is_right_when_every_token_is_and_a_set_in_any_order() -> None:
    ids = np.array([[5, 6, 7, 2], [8, 9, 10, 2]], np.int32)
    batch = Batch(
        4,
        ids,
        np.array([]),
        np.array([0, 1, 2, 4, 5, 6]),
        np.array([0, 0, 0, 1, 1, 1]),
        ("a", "b"),
        ((), (9, 10)),
    )
    right = np.array([6, 7, 2, 9, 10, 2])
    assert exact(batch, right).tolist() == [True, True]
    assert exact(batch, np.array([6, 7, 3, 10, 9, 2])).tolist() == [False, True]
    assert exact(batch, np.array([7, 6, 2, 9, 8, 2])).tolist() == [False, False]


def test_the_first_layer_looks_at_the_tokens_just_before() -> None:
    """Head by head one token further back, whatever the tokens are; without the pull it does not."""
    ids = torch.randint(4, 1400, (4, 64))
    for local in (NANO.local, 0.0):
        model = initial(replace(NANO, local=local), 0)
        model.set_attn_implementation("eager")
        with torch.no_grad():
            weights = model.model(ids, output_attentions=True).attentions[0]
        for head in range(NANO.heads):
            back = [weights[:, head].diagonal(-i, 1, 2)[:, 16:].mean() for i in range(8)]
            most = int(np.argmax(back))
            assert (most == head + 1 and back[most] > 0.3) == (local > 0)


def test_the_learning_rate_rises_stays_and_falls_to_zero() -> None:
    assert [factor(step, 0.0, 200) for step in (1, 100, 200, 900)] == [0.005, 0.5, 1.0, 1.0]
    assert [round(factor(900, share, 200), 6) for share in (0.7, 0.85, 1.0)] == [1.0, 0.5, 0.0]


def test_a_few_steps_lower_the_loss_and_two_runs_are_alike(tmp_path: Path) -> None:
    batches = Batches(Schedule((Stage(128, 0.1),)), 0, ("needle",), MANY // 1024)
    recipe = Recipe(
        replace(NANO, hidden=32, inner=32, heads=2, rate=1e-2), batches, 0, warmup=5, every=16_384
    )
    one = train(recipe, "cpu", tmp_path / "curve.jsonl", shown=False)
    losses = [line["text_loss"] for line in one.curve]
    assert losses[-1] < 0.9 * losses[0]
    assert not one.ended_early
    assert [json.loads(line) for line in (tmp_path / "curve.jsonl").open()] == one.curve
    two = train(recipe, "cpu", shown=False)
    store(batches, tmp_path / "batches", workers=1)
    three = train(replace(recipe, stored=tmp_path / "batches"), "cpu", shown=False)
    for other in (two, three):
        pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_stored_batches_are_those_that_are_built_for_each_training(tmp_path: Path) -> None:
    batches = small(("needle", "cwe"))
    built = store(batches, tmp_path / "batches", workers=2)
    assert built == len(batches) > 50
    assert store(batches, tmp_path / "batches", workers=2) == 0
    for number, batch in enumerate(Stored(batches, tmp_path / "batches")):
        for a, b in zip(vars(batch).values(), vars(batches[number]).values(), strict=True):
            assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def test_stored_batches_of_another_training_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = small(("needle",))
    Stored(batches, tmp_path)
    with pytest.raises(StudyError, match="holds batches with seed 0; choose an empty folder or the"):
        Stored(replace(batches, seed=1), tmp_path)
    monkeypatch.setattr(stored, "PATIENCE", 0.02)
    with pytest.raises(StudyError, match=r"Batch 0 has not come .* build it with"):
        next(iter(Stored(batches, tmp_path)))


def test_time_that_is_over_ends_a_training_and_is_told() -> None:
    trained = train(Recipe(NANO, small(("needle",)), 0, seconds=1e-9), "cpu", shown=False)
    assert trained.ended_early
    assert trained.steps == 0


@pytest.mark.slow
def test_the_smallest_rung_learns_to_find_a_needle(tmp_path: Path) -> None:
    folder = run(Request("nano", 0, tmp_path, float("inf"), workers=0))
    found = json.loads((folder / "card.json").read_text())
    curve = [json.loads(line) for line in (folder / "curve.jsonl").open()]
    assert curve[-1]["reply_loss"] < 0.5 * curve[0]["reply_loss"]
    score = {entry["task"]: entry for entry in found["scores"]}
    assert score["needle"]["score"] > 0.5  # a guess of four digits is right once in 9,000
    assert score["needle"]["parsed"] == 1
    assert score["needle needles=4"]["score"] > 0.5  # copying any value is right once in four times


@pytest.fixture
def shipped(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that ships an untrained nano."""
    request = Request("nano", 3, tmp_path / "models", 1.0, workers=0)
    recipe = recipe_of(request)
    model = initial(NANO, 3).eval()
    trained = Trained(model, [{"step": 1}], 1, 2048, 0.5, True)
    folder = tmp_path / "models" / "nano"
    for _ in range(2):  # an earlier one is replaced
        save(model, tokenizer(), folder, card(request, recipe, trained, "cpu"), trained.curve)
    note(folder, score_folder(folder, {128: 2}, [variants("needle")[0][0]]))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return folder


def test_a_shipped_checkpoint_is_a_model_by_its_name(shipped: Path) -> None:
    assert "nano" in models.REGISTRY
    entry = models.REGISTRY["nano"]
    assert models.weights_sha256("nano") == manifest.sha256(shipped / "model.safetensors")
    assert models.is_cached("nano")
    assert models.folder("nano") == models.fetch("nano") == shipped
    model, read = models.load("nano", dtype="bfloat16")
    assert entry.parameters == model.num_parameters() == NANO.architecture.parameters
    assert read("red lamp")["input_ids"] == tokenizer()("red lamp")["input_ids"]
    assert model.generation_config.eos_token_id == read.eos_token_id
    assert sorted(path.name for path in shipped.iterdir()) == [
        "README.md", "card.json", "config.json", "curve.jsonl", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    text = (shipped / "README.md").read_text()
    assert models.weights_sha256("nano") in text
    assert "--rung nano --seed 3" in text


def test_shipped_weights_that_are_not_the_card_s_are_refused(shipped: Path) -> None:
    weights = shipped / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(StudyError, match=r"'nano' are not its card's .* restore"):
        models.load("nano")
    (shipped / "card.json").write_text("{")
    with pytest.raises(StudyError, match=r"card\.json is not a model's card"):
        list(models.REGISTRY)


def test_shipped_weights_that_are_missing_are_named(shipped: Path) -> None:
    (shipped / "model.safetensors").unlink()
    assert not models.is_cached("nano")
    for use in (models.fetch, models.load, models.tokenizer):
        with pytest.raises(StudyError, match=r"'nano' are not its card's \(there is no \*\.safetensors\)"):
            use("nano")


def test_a_shipped_model_is_asked_in_its_own_words_alone(shipped: Path) -> None:
    run = {"models": ["nano"], "lengths": [128]}
    ladder = {"name": "needle", "pool": "ladder"}
    AccuracyParameters.parse({**run, "tasks": [ladder, {"name": "vt", "pool": "ladder"}]})
    for strange in ("needle", "prose_qa"):
        with pytest.raises(StudyError, match=f"nano knows the words of the pool 'ladder' .* task {strange} "):
            AccuracyParameters.parse({**run, "tasks": [ladder, strange]})
    with pytest.raises(StudyError, match="nano has a closed vocabulary and reads no natural text"):
        FidelityParameters.parse({**run, "steps": 8})
    with pytest.raises(StudyError, match=r"above the context of nano, 128 tokens; .*allow_extrapolation"):
        AccuracyParameters.parse({**run, "lengths": [256], "tasks": [ladder]})


def test_budgets_are_calibrated_on_words_that_the_model_knows() -> None:
    made = list(prompts_of(tokenizer(), 256, 12, "ladder"))
    assert len({tuple(prompt.ids) for prompt in made}) == 12
    assert not any(identity(UNKNOWN) in prompt.ids for prompt in made)


def test_the_sweep_asks_what_the_rungs_were_trained_on() -> None:
    file = paths.ROOT / "notebooks" / "params" / "accuracy" / "ladder.yaml"
    asked = yaml.safe_load(file.read_text(encoding="utf-8"))
    tasks = [TaskSpec.model_validate(spec).build() for spec in asked["tasks"]]
    assert all(task in [variant.build() for variant in SCORED] for task in tasks)
    assert [task.name for task in tasks] == list(NAMES)
    assert asked["models"]
    assert set(asked["models"]) <= set(RUNGS)
    assert max(asked["lengths"]) <= CONTEXT


SHIPPED = sorted((Path(__file__).resolve().parents[1] / "models").glob("*/card.json"))


@pytest.mark.parametrize("card", SHIPPED, ids=lambda path: path.parent.name)
def test_a_checkpoint_of_the_repository_is_what_its_card_says(card: Path) -> None:
    folder, told = card.parent, json.loads(card.read_text())
    assert folder.name == told["name"] == models.REGISTRY[folder.name].name
    assert manifest.sha256(folder / "model.safetensors") == told["model"]["sha256"]
    assert (folder / "model.safetensors").stat().st_size == told["bytes"]
    assert (folder / "README.md").read_text() == describe(told)
    assert len((folder / "curve.jsonl").read_text().splitlines()) > 1
    assert told["model"]["context"] == CONTEXT
    assert told["model"]["parameters"] == RUNGS[folder.name].architecture.parameters
    assert {entry["task"] for entry in told["scores"]} == {variant.label for variant in SCORED}
    assert not told["ended_early"]
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        assert "trust_remote_code" not in (folder / name).read_text()


@pytest.mark.parametrize("card", SHIPPED, ids=lambda path: path.parent.name)
def test_a_checkpoint_of_the_repository_has_the_tokenizer_of_the_code(card: Path) -> None:
    read = AutoTokenizer.from_pretrained(card.parent, local_files_only=True)
    own = build(CONTEXT)
    assert read.get_vocab() == own.get_vocab()
    assert read.backend_tokenizer.to_str() == own.backend_tokenizer.to_str()
    config = json.loads((card.parent / "config.json").read_text())
    shape = RUNGS[card.parent.name]
    assert config["vocab_size"] == len(words())
    assert config["max_position_embeddings"] == CONTEXT
    assert (config["num_hidden_layers"], config["hidden_size"]) == (shape.layers, shape.hidden)


def test_the_checkpoints_of_the_repository_are_small_and_of_one_training() -> None:
    root = Path(__file__).resolve().parents[1] / "models"
    files = [path for card in SHIPPED for path in card.parent.iterdir()]
    assert sum(path.stat().st_size for path in files) <= 26 * MIB
    assert all(path.stat().st_size <= 15 * MIB for path in files)
    assert {path.name for path in root.glob("*/")} <= {*RUNGS, NANO.name}
    told = [json.loads(card.read_text()) for card in SHIPPED]
    for name in ("schedule", "mixture", "tokens", "seed"):
        assert len({json.dumps(card[name], sort_keys=True) for card in told}) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rung", "ladder-9m"], "no rung 'ladder-9m'; choose one of ladder-0.4m"),
        (["--rung", "nano", "--tasks", "qa"], "not trained on 'qa'"),
        (["--rung", "nano", "--schedule", "128"], "A schedule reads"),
        (["--rung", "nano", "--schedule", "128:1:2"], "from 0 to 1"),
        (["--rung", "nano", "--set", "rate"], "What is set reads"),
        (["--rung", "nano", "--scored", "500"], "Lengths that can be scored are 512, 1024"),
        (["--rung", "nano", "--set", "layers=3"], "not layers"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
