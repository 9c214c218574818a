"""Columns and slashes: the ranges are those of a sequential port, and the sums those of the whole map."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import tensors

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.methods.base import Context, Method
from sparsestudy.methods.bisection import TOLERANCE
from sparsestudy.methods.flexprefill import FlexPrefill, cover
from sparsestudy.methods.flexprefill_original import FlexPrefillOriginal
from sparsestudy.methods.probabilities import probabilities
from sparsestudy.methods.slashes import all_sums, selected, window_sums
from sparsestudy.methods.vertical_slash import VerticalSlash
from sparsestudy.selection import Selection

METHODS = [VerticalSlash, FlexPrefill, FlexPrefillOriginal]


def around(lengths: list[int], question: list[int] | None = None) -> Context:
    rows = torch.tensor(lengths)
    return Context(
        lengths=rows,
        offsets=rows * 0,
        scaling=0.25,
        layer=0,
        page_bounds=lambda size: pytest.fail("prefill asks for no pages"),
        prefilled=rows,
        question=None if question is None else torch.tensor(question),
        salt=lambda: rows * 0,
    )


def ported(columns: list[int], offsets: list[int], start: int, tile: int) -> tuple[list, list]:
    """Ranges and single columns of the queries ``start .. start + tile - 1``, one decision at a time."""
    ranges: list[list[int]] = []
    for offset in sorted(offsets, reverse=True):
        if offset >= start + tile:
            continue
        end = max(start + tile - offset, tile)
        if not ranges or end > ranges[-1][1] + tile:
            ranges.append([end - tile, end])
        elif end > ranges[-1][1]:
            ranges[-1][1] += tile
    single = [
        c for c in columns if c < ranges[-1][1] and not any(begin <= c < stop for begin, stop in ranges)
    ]
    return [(begin, stop - begin) for begin, stop in ranges], single


def unpacked(selection: Selection, row: int, head: int, block: int) -> tuple[list, list]:
    place = (row, head, block)
    pairs = zip(selection.starts[place].tolist(), selection.widths[place].tolist(), strict=True)
    columns = [] if selection.columns is None else selection.columns[place].tolist()
    return [pair for pair in pairs if pair[1]], [c for c in columns if c >= 0]


def chosen(tokens: int, lengths: list[int], heads: int, share: float, clustered: bool, seed: int):
    """Random columns and offsets; `clustered` ones come in runs. Offset 0 is always there."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(2, len(lengths), heads, tokens, generator=generator)
    if clustered:
        runs = torch.rand(2, len(lengths), heads, -(-tokens // 48), generator=generator)
        noise = 0.2 * noise + runs.repeat_interleave(48, -1)[..., :tokens]
    cut = torch.quantile(noise.flatten(), share)
    masks = (noise <= cut) & (torch.arange(tokens) < torch.tensor(lengths)[:, None, None])
    masks[1, ..., 0] = True
    return masks


@st.composite
def cases(draw: st.DrawFn):
    tile = draw(st.sampled_from([16, 64, 128]))
    lengths = draw(st.lists(st.integers(1, 700), min_size=1, max_size=2))
    share = draw(st.sampled_from([0.0, 0.005, 0.02, 0.1, 0.5, 1.0]))
    columns, offsets = chosen(max(lengths), lengths, 2, share, draw(st.booleans()), draw(st.integers(0, 999)))
    return columns, offsets, tile, lengths


@settings(max_examples=150, deadline=None)
@given(cases())
def test_ranges_are_those_of_the_sequential_port(case) -> None:
    columns, offsets, tile, lengths = case
    selection = selected(columns, offsets, tile, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        for head in range(2):
            mine = [x[row, head].nonzero().flatten().tolist() for x in (columns, offsets)]
            for block in range(-(-length // tile)):
                assert unpacked(selection, row, head, block) == ported(*mine, block * tile, tile)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_the_laws_of_a_selection_hold(case) -> None:
    columns, offsets, tile, lengths = case
    tokens = columns.shape[-1]
    selection = selected(columns, offsets, tile, torch.tensor(lengths))
    mask = selection.mask(slice(0, tokens), tokens)
    position = torch.arange(tokens)
    back = position[:, None] - position
    assert not mask[..., back < 0].any()
    real = position < torch.tensor(lengths)[:, None]
    # A pair that a range and a column both hold would be counted twice.
    assert torch.equal(selection.attended(), (mask & real[:, None, :, None]).sum((2, 3)))
    wanted = offsets[..., back.clamp(min=0)] | columns[:, :, None]
    assert (mask | ~wanted | (back < 0)).all(), "a chosen column or offset is missing"
    assert (selection.widths % tile == 0).all()
    if selection.columns is not None:
        assert (selection.columns < torch.arange(0, tokens, tile)[:, None]).all()


@pytest.mark.parametrize("tile", [16, 64, 128])
@pytest.mark.parametrize("kind", ["all", "own", "often", "sparse"])
def test_extremes(tile: int, kind: str) -> None:
    tokens = 3000
    offsets = torch.zeros(1, 1, tokens, dtype=torch.bool)
    # One more than a tile apart is as many ranges as there can be, unless key 0 makes them grow together.
    offsets[..., :: {"all": 1, "own": tokens, "often": tile + 1, "sparse": 2 * tile + 3}[kind]] = True
    selection = selected(torch.zeros_like(offsets), offsets, tile, torch.tensor([tokens]))
    listed = offsets[0, 0].nonzero().flatten().tolist()
    wanted = [ported([], listed, start, tile) for start in range(0, tokens, tile)]
    assert [unpacked(selection, 0, 0, block) for block in range(len(wanted))] == wanted
    most = max(len(ranges) for ranges, _ in wanted)
    assert selection.starts.shape[-1] == most, "unused slots are cut"
    if kind in ("all", "own"):
        assert most == 1
    assert kind != "all" or (selection.density() == 1).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=3), st.integers(1, 220), st.floats(0, 1), st.booleans()
)
def test_sums_are_those_of_the_whole_map(
    lengths: list[int], size: int, part: float, everything: bool
) -> None:
    tokens = max(lengths)
    q, k, _ = tensors(tokens, batch=len(lengths), seed=size)
    context = around(lengths)
    end = torch.tensor([1 + round(part * (length - 1)) for length in lengths])
    full = probabilities(q, k, torch.arange(tokens)[None], 0.25)
    query = torch.arange(tokens)
    seen = (query < context.lengths[:, None]) & torch.tensor(True)
    if not everything:
        seen = (query < end[:, None]) & (query >= end[:, None] - size)
    full = full * seen[:, None, :, None]
    columns, offsets = all_sums(q, k, context) if everything else window_sums(q, k, context, end, size)
    by_offset = torch.stack([full.diagonal(-s, 2, 3).sum(-1) for s in range(tokens)], -1)
    assert torch.allclose(columns, full.sum(2), atol=1e-5)
    assert torch.allclose(offsets, by_offset, atol=1e-5)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize("tokens", [1, 3, 63, 64, 65, 300, 700])
def test_rows_choose_as_they_would_alone(method: type[Method], tokens: int) -> None:
    q, k, _ = tensors(700, batch=2, seed=tokens)
    both = method().prefill(q, k, around([700, tokens]))
    alone = method().prefill(q[1:, :, :tokens], k[1:, :, :tokens], around([tokens]))
    assert torch.equal(both.mask(slice(0, tokens), tokens)[1], alone.mask(slice(0, tokens), tokens)[0])
    assert both.attended()[1].tolist() == alone.attended()[0].tolist()
    assert alone.mask(slice(0, tokens), tokens).diagonal(0, 2, 3).all()


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize("source", ["noise", "large", "zeros", "truth"])
def test_any_scores_give_a_lawful_selection(method: type[Method], source: str) -> None:
    tokens, lengths = 500, [500, 350]
    q, k, _ = tensors(tokens, batch=2)
    context = around(lengths)
    generator = torch.Generator().manual_seed(1)
    scores = method().importance(q, k, context)
    if source == "truth":
        truth = method().true_importance(q, k, context)
        assert [x.shape for x in truth] == [x.shape for x in scores]
        scores = truth
    else:
        factor = {"noise": 1, "large": 1e4, "zeros": 0}[source]
        scores = tuple(factor * torch.rand(s.shape, generator=generator) for s in scores)
    selection = method().choose(scores, context)
    mask = selection.mask(slice(0, tokens), tokens)
    assert not mask.triu(1).any()
    assert mask.diagonal(0, 2, 3).all()
    real = torch.arange(tokens) < context.lengths[:, None]
    assert torch.equal(selection.attended(), (mask & real[:, None, :, None]).sum((2, 3)))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_without_the_question_nothing_after_it_matters(method: type[Method]) -> None:
    q, k, _ = tensors(400)
    aware, blind = method(), method(aware=False)
    assert (aware.question_aware, blind.question_aware) == (True, False)
    with pytest.raises(StudyError, match="where the question begins"):
        blind.prefill(q, k, around([400]))
    context = around([400], question=[300])
    changed = q.clone()
    changed[:, :, 300:] = torch.randn(changed[:, :, 300:].shape, generator=torch.Generator().manual_seed(9))
    same = [blind.importance(x, k, context)[:2] for x in (q, changed)]
    assert all(torch.equal(*pair) for pair in zip(*same, strict=True))
    assert not torch.equal(aware.importance(q, k, context)[0], aware.importance(changed, k, context)[0])


def test_flexprefill_without_coverage_is_vertical_slash() -> None:
    q, k, _ = tensors(900)
    context = around([900])
    flex = FlexPrefill(alpha=0.0, min_budget=90).prefill(q, k, context)
    plain = VerticalSlash(90, 90).prefill(q, k, context)
    assert torch.equal(flex.mask(slice(0, 900), 900), plain.mask(slice(0, 900), 900))


def test_coverage_counts_until_the_share_is_passed() -> None:
    scores = torch.tensor([[[5.0, 1.0, 3.0, 1.0, 90.0]]])
    lengths = torch.tensor([[[4]]])
    assert [cover(scores, share, lengths).item() for share in (0, 0.49, 0.5, 0.79, 0.8, 0.95, 1)] == [
        1, 1, 2, 2, 3, 4, 4,
    ]  # fmt: skip
    assert cover(scores * 0, 0.5, lengths).item() == 4


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_calibration_finds_the_closest_budget(method: type[Method]) -> None:
    tokens = 1024
    q, k, _ = tensors(tokens, batch=2, seed=3)
    context = around([tokens] * 2)
    scores = method().importance(q, k, context)
    tried: dict[Method, float] = {}

    def measure(variant: Method) -> float:
        assert variant not in tried, "a budget is measured once"
        tried[variant] = variant.choose(scores, context).density().mean().item()
        return tried[variant]

    achieved = []
    for sparsity in (0.6, 0.4, 0.2):
        tried.clear()
        found = method().at_sparsity(sparsity, tokens, measure)
        assert len(tried) <= 13
        assert abs(tried[found] - 1 + sparsity) == min(
            abs(density - 1 + sparsity) for density in tried.values()
        )
        achieved.append(tried[found])
    assert achieved == sorted(achieved)
    tried.clear()
    with pytest.raises(Unreachable, match=f"{tokens} tokens") as caught:
        method().at_sparsity(0.99, tokens, measure)
    assert list(tried.values()) == [caught.value.lowest_density]


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_bisection_survives_noise(noise: float) -> None:
    generator = torch.Generator().manual_seed(0)
    densities = torch.linspace(0.05, 1, 500) + noise * torch.randn(500, generator=generator)

    def measure(variant: Method) -> float:
        return densities[variant.slash_size - 16].item()

    for sparsity in (0.9, 0.5, 0.1):
        found = VerticalSlash().at_sparsity(sparsity, 515, measure)
        assert abs(measure(found) - 1 + sparsity) <= max(0.001, noise)


def test_a_target_just_below_the_lowest_density_is_still_met() -> None:
    lowest = 0.1
    for factor, met in ((1 + TOLERANCE - 0.001, True), (1 + TOLERANCE + 0.001, False)):
        sparsity = 1 - lowest / factor
        if met:
            assert VerticalSlash().at_sparsity(sparsity, 100, lambda variant: lowest).slash_size == 16
        else:
            with pytest.raises(Unreachable):
                VerticalSlash().at_sparsity(sparsity, 100, lambda variant: lowest)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_calibration_without_a_measure_and_full_budget(method: type[Method]) -> None:
    assert method().calibrated
    with pytest.raises(StudyError, match="measure"):
        method().at_sparsity(0.5, 1024)
    full = method().at_sparsity(0.0, 700)
    assert full.is_dense(700)
    assert not method(**{field: 64 for field in method.BUDGET if "size" in field}).is_dense(700)
    q, k, _ = tensors(700)
    assert (full.prefill(q, k, around([700])).density() == 1).all()


def test_the_query_aware_branch_is_reported() -> None:
    q, k, _ = tensors(700)
    for tau, share in ((0.0, 0.0), (1.0, 1.0)):
        method, context = FlexPrefillOriginal(tau=tau), around([700])
        method.prefill(q, k, context)
        assert context.notes["query_aware"].mean() == share
        assert method.query_aware(q, k, context).float().mean() == share


@pytest.mark.parametrize(
    ("method", "fields", "word"),
    [
        (VerticalSlash, {"slash_size": 8}, "slash_size"),
        (VerticalSlash, {"tile": 32}, "tile"),
        (VerticalSlash, {"local": 0}, "local"),
        (FlexPrefill, {"alpha": 1.5}, "alpha"),
        (FlexPrefillOriginal, {"gamma": -1}, "gamma"),
        (FlexPrefillOriginal, {"block_size": 8}, "block_size"),
    ],
)
def test_impossible_hyperparameters_are_one_sentence(method: type[Method], fields: dict, word: str) -> None:
    with pytest.raises(StudyError, match=word):
        method(**fields)
