"""Fidelity to dense attention: laws of recall and divergence, the texts, the dataset, wrong parameters."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kernels import INTERPRETED
from shapes import context, measure, tensors
from tiny import NAME, write_checkout, write_model
from tolerances import LOGITS, relative_error

from sparsestudy import dataset, models, paths, prose
from sparsestudy.errors import StudyError
from sparsestudy.fidelity import capture
from sparsestudy.fidelity_parameters import FidelityParameters
from sparsestudy.forced import distances, prompt_logits, step_logits
from sparsestudy.generate import Prompt, observation, prefill
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Method
from sparsestudy.methods.probabilities import every_row
from sparsestudy.recall import CHUNK, Observer, kept_share
from sparsestudy.schema import FELL_BACK_DENSE, OK, STATUS, UNREACHABLE

torch.set_num_threads(1)
LENGTH, STEPS, BINS = 256, 16, 4
ORIGINAL = {"name": "flexprefill_original", "block_size": 16}
BESIDE = [
    {"name": "random", "like": "snapkv"},
    {"name": "oracle", "like": "tokens"},
    {"name": "oracle", "like": "quest"},
]
RUN: dict[str, Any] = {
    "models": [NAME],
    "lengths": [LENGTH],
    "sparsities": [0, 500, 990],
    "methods": [*(name for name in METHODS if name != ORIGINAL["name"]), ORIGINAL, *BESIDE],
    "texts": 3,
    "steps": STEPS,
    "bins": BINS,
    "batch_tokens": 2 * LENGTH,
}
# A choice that keeps every key gives the same sums in another order.
FULL_KL = 1e-6


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fidelity")
    return write_checkout(folder / "root", write_model(folder / "model"))


@pytest.fixture(scope="module", autouse=True)
def checkout(registry: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSESTUDY_MODELS", str(registry))
        patch.setattr(paths, "ROOT", registry.parent)
        yield


@cache
def loaded() -> Any:
    return models.load(NAME)


def run(**changes: Any) -> Any:
    """The dataset of the one shard of :data:`RUN` with changes."""
    shard = FidelityParameters.parse(RUN | changes).shards()[0]
    return dataset.stamp(capture(shard, *loaded()), shard)


@pytest.fixture(scope="module")
def data(checkout: None) -> Any:
    return run()


@pytest.fixture(scope="module")
def tokens(checkout: None) -> torch.Tensor:
    texts = prose.passages(loaded()[1], LENGTH + STEPS + 1, 2, 0)
    return torch.tensor([text.ids for text in texts])


def start(tokens: torch.Tensor, method: Method, observed: Method | None = None) -> Any:
    prompts = [Prompt(ids, LENGTH) for ids in tokens[:, :LENGTH].tolist()]
    return prefill(
        loaded()[0], prompts, method, "dense", "auto", observation([observed or method], prompts) or 1
    )


def recalls(tokens: torch.Tensor, *methods: Method) -> list[torch.Tensor]:
    """Recall of each method, float64 ``(layers, batch, heads, bins)``."""
    observer = Observer(methods, BINS, STEPS)
    prompts = [Prompt(ids, LENGTH) for ids in tokens[:, :LENGTH].tolist()]
    begun = prefill(loaded()[0], prompts, observer, "dense", "auto", max(1, observation(methods, prompts)))
    step_logits(loaded()[0], begun, tokens[:, LENGTH:-1], observer)
    counts = [LENGTH if method.phase == "prefill" else STEPS for method in methods]
    return [torch.stack(list(observer.recall(i, n).values())) for i, n in enumerate(counts)]


def named(name: str) -> Method:
    return METHODS[name](**{"block_size": 16} if name == "flexprefill_original" else {})


ALL = [name for name in METHODS if name != "dense"]
CLOSED = [name for name in ALL if named(name).role == "method" and not named(name).calibrated]


@pytest.mark.parametrize("name", ALL)
def test_a_full_budget_is_dense_attention(tokens: torch.Tensor, name: str) -> None:
    method = named(name).at_sparsity(0, LENGTH + STEPS)
    assert (recalls(tokens, method)[0] - 1).abs().max() < 1e-6
    model, dense = loaded()[0], METHODS["dense"]()
    if method.phase == "prefill":
        passes = [prompt_logits(model, tokens[:, :LENGTH], m)[0] for m in (dense, method)]
        targets = tokens[:, 1 : LENGTH + 1]
    else:
        begun = start(tokens, dense, method)
        passes = [step_logits(model, begun, tokens[:, LENGTH:-1], m)[0] for m in (dense, method)]
        targets = tokens[:, LENGTH + 1 :]
    loss, kl = distances(passes[0], passes[1], targets)
    assert kl.max() < FULL_KL
    torch.testing.assert_close(loss, distances(passes[0], passes[0], targets)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("sparsity", [0.3, 0.65])
def test_no_choice_of_the_same_units_and_budget_keeps_more_than_the_oracle(
    tokens: torch.Tensor, name: str, sparsity: float
) -> None:
    method = named(name).at_sparsity(sparsity, LENGTH)
    others = [METHODS[kind](like=name).beside(method) for kind in ("oracle", "random")]
    own, best, worst = recalls(tokens, method, *others)
    # heads of a group, or of a layer, share a budget, so that single heads may gain from a worse choice
    assert (own.mean((2, 3)) <= best.mean((2, 3)) + 1e-6).all()
    assert worst.mean() < best.mean()


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("sparsity", [0.5, 0.8])
def test_no_keys_keep_more_than_the_oracle_over_tokens(
    tokens: torch.Tensor, phase: Any, sparsity: float
) -> None:
    window = METHODS["window"](phase=phase).at_sparsity(sparsity, LENGTH)
    oracle = METHODS["oracle"](like="tokens", phase=phase).at_sparsity(sparsity, LENGTH)
    own, best = recalls(tokens, window, oracle)
    assert (own <= best + 1e-6).all()


@pytest.mark.parametrize("like", ["tokens", *CLOSED])
def test_more_budget_never_lowers_the_oracles_recall(tokens: torch.Tensor, like: str) -> None:
    oracle = METHODS["oracle"](like=like)
    found = recalls(tokens, *(oracle.at_sparsity(s, LENGTH) for s in (0.65, 0.5, 0.3, 0.0)))
    for less, more in pairwise(found):
        assert (less <= more + 1e-6).all() if like != "ada_snapkv" else less.mean() <= more.mean() + 1e-6


@pytest.mark.parametrize("name", [name for name in ALL if named(name).phase == "prefill"])
def test_running_sums_weigh_what_a_mask_weighs(name: str) -> None:
    tokens = LENGTH + 5
    q, k, _ = tensors(tokens)
    around = context([tokens], k)
    method = named(name).at_sparsity(0.6, tokens, measure(tokens))
    chosen = method.prefill(q, k, around)
    assert chosen is not None
    for weights, begin in every_row(q, k, around.lengths, around.scaling, CHUNK):
        queries = slice(begin, begin + weights.shape[2])
        summed = torch.nn.functional.pad(weights.double().cumsum(-1), (1, 0))
        mask = chosen.mask(queries, weights.shape[3])
        mask = mask.repeat_interleave(weights.shape[1] // mask.shape[1], dim=1)
        expected = (weights.double() * mask).sum(-1)
        torch.testing.assert_close(kept_share(chosen, weights, summed, queries), expected, rtol=0, atol=1e-6)


def test_a_text_read_in_steps_gives_what_it_gives_as_a_prompt(tokens: torch.Tensor) -> None:
    model, dense = loaded()[0], METHODS["dense"]()
    whole, _ = prompt_logits(model, tokens[:, :-1], dense)
    steps, _ = step_logits(model, start(tokens, dense), tokens[:, LENGTH:-1], dense)
    assert relative_error(steps, whole[:, LENGTH:]) < LOGITS


def test_distances_are_those_of_torch() -> None:
    torch.manual_seed(0)
    dense, other, targets = torch.randn(2, 300, 50), torch.randn(2, 300, 50), torch.randint(50, (2, 300))
    loss, kl = distances(dense, other, targets)
    there, here = dense.log_softmax(-1), other.log_softmax(-1)
    expected = torch.nn.functional.kl_div(here, there, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(kl.float(), expected, rtol=1e-5, atol=1e-5)
    flat = torch.nn.functional.cross_entropy(other.flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(loss.float().flatten(), flat, rtol=1e-5, atol=1e-5)


def test_every_method_is_measured_at_every_place(data: Any) -> None:
    dataset.validate(data)
    at = data.isel(model=0, length=0)
    assert set(at["method_name"].values) == set(METHODS)
    ran = np.isin(at["status"].values, (OK, FELL_BACK_DENSE))
    for name in ("loss", "kl", "recall", "attended_density", "head_density", "head_recall"):
        measured = np.isfinite(at[name].values).reshape(*ran.shape, -1)
        assert (measured == ran[..., None]).all(), name
    for name in ("recall", "head_recall"):
        values = at[name].values
        assert (values[np.isfinite(values)] >= 0).all()
        assert (values[np.isfinite(values)] <= 1 + 1e-6).all()
    for name in ALL:
        assert STATUS[int(at["status"].sel({"method": labels(at)[name], "sparsity": 500}))] == "ok", name
    full = at.sel({"sparsity": 0})
    assert (full["kl"].values == 0).all()
    assert (full["recall"].values == 1).all()
    np.testing.assert_array_equal(full["loss"].values, full["dense_loss"].values)
    half = at.sel({"sparsity": 500}).isel(method=at["method_name"].values != "dense")
    # what precedes the budget's reach is attended whole, so that single bins may not differ
    assert (half["kl"].mean(["sample", "bin"]).values > 0).all()


def labels(at: Any) -> dict[str, str]:
    return dict(zip(reversed(at["method_name"].values), reversed(at["method"].values), strict=True))


def test_head_recalls_have_the_mean_of_the_texts(data: Any) -> None:
    at = data.isel(model=0, length=0)
    np.testing.assert_allclose(
        at["recall"].mean(["sample", "bin"]), at["head_recall"].mean(["layer", "head"]), atol=1e-6
    )


def test_positions_are_those_of_the_phase(data: Any) -> None:
    at = data.isel(length=0)
    for phase, first, last in (("prefill", 0, LENGTH), ("decode", LENGTH, LENGTH + STEPS)):
        of_phase = at.isel(method=at["method_phase"].values == phase)
        assert (of_phase["bin_start"].values[:, 0] == first).all()
        assert (of_phase["bin_stop"].values[:, -1] == last).all()
        assert (of_phase["bin_start"].values[:, 1:] == of_phase["bin_stop"].values[:, :-1]).all()


def test_what_cannot_be_reached_says_how_low_it_gets(data: Any) -> None:
    at = data.isel(model=0, length=0).sel({"method": "block_sparse", "sparsity": 990})
    assert int(at["status"]) == UNREACHABLE
    assert 0.01 < float(at["lowest_density"]) < 1


def test_a_rerun_is_equal_survives_the_disk_and_depends_on_no_batch(data: Any, tmp_path: Path) -> None:
    few = ["block_sparse", "snapkv", {"name": "random", "like": "quest"}]
    once, again = run(methods=few), run(methods=few)
    assert dataset.differences(once, again) == []
    place = tmp_path / "fidelity" / "notebook" / f"{NAME}-{LENGTH}.nc"
    dataset.save(data, place)
    assert dataset.equal(dataset.open_run(place.parent), data)
    alone = run(methods=few, batch_tokens=1)
    for name in ("loss", "kl", "recall", "attended_density", "head_recall"):
        np.testing.assert_allclose(alone[name], once[name], rtol=1e-3, atol=1e-6)


@pytest.mark.skipif(not INTERPRETED, reason="kernels cannot run on this CPU")
def test_what_computed_is_stored_and_changes_nothing() -> None:
    asked: dict[str, Any] = {"methods": ["quest", "snapkv"], "sparsities": [500], "texts": 2, "steps": 4}
    theirs, ours = (run(**asked, backend=name) for name in ("torch", "triton"))
    assert theirs["backend"].values.ravel().tolist() == ["torch", "torch"]
    assert ours["backend"].values.ravel().tolist() == ["triton", "triton"]
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)


def test_the_first_texts_of_more_are_the_same() -> None:
    tokenizer = loaded()[1]
    few, more = (prose.passages(tokenizer, LENGTH, number, 3) for number in (2, 20))
    assert few == more[:2]
    assert few != prose.passages(tokenizer, LENGTH, 2, 4)
    for text in more:
        assert len(text.ids) == LENGTH
        assert any(text.text.startswith(part) for book in prose.BOOKS for part in prose.paragraphs(book))
    starts = [text.text for text in more]
    assert all(a not in b for a in starts for b in starts if a is not b)


def test_texts_hold_no_headings_or_notes() -> None:
    for book in prose.BOOKS:
        parts = prose.paragraphs(book)
        assert sum(map(len, parts)) > 400_000
        for part in parts:
            assert "\n" not in part
            assert not part.startswith(("[", "*", "CHAPTER", "Chapter"))
        whole = " ".join(parts).lower()
        for mark in ("gutenberg", "copyright", "http", "ebook"):
            assert mark not in whole


def test_a_damaged_text_is_refused() -> None:
    with pytest.raises(StudyError, match="Persuasion .* damaged"):
        prose.paragraphs(replace(prose.BOOKS[0], sha256="0" * 64))


def test_more_texts_than_there_are_is_one_sentence() -> None:
    with pytest.raises(StudyError, match=r"hold \d+ passages of 20000 tokens, not 500; ask for fewer"):
        prose.passages(loaded()[1], 20_000, 500, 0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"texts": 1}, ["'texts'", "at least 2"]),
        ({"bins": 17}, ["'bins' is 17", "at most 16"]),
        ({"methods": [{"name": "quest", "tail": "decode"}]}, ["quest-tail_decode", "leave it out"]),
        ({"lengths": [1020]}, ["1020", "16 steps", "allow_extrapolation"]),
        ({"task": "needle"}, ["no parameter 'task'"]),
    ],
)
def test_a_wrong_parameter_is_one_sentence(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        FidelityParameters.parse(RUN | given)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
