"""Parts of the page on tasks: every registered task with a real prompt, and what dense attention scores."""

from __future__ import annotations

import pandas as pd

from sparsestudy import assets, findings, task_prompts, task_tables, words
from sparsestudy.definitions import definition
from sparsestudy.errors import StudyError
from sparsestudy.report import describe, html, markdown, show_table
from sparsestudy.task_prompts import Shown
from sparsestudy.tasks import TASKS
from sparsestudy.view import Run

HEADING = "h3"


def overview() -> None:
    """Show what each registered task measures, and what guessing and its solver score."""
    rows = []
    for name in TASKS:
        measures = TASKS[name].measures
        row = {"task": _title(name), "scope": measures.scope, "dispersion": measures.dispersion}
        row["text"] = measures.text
        one = _shown(name)
        if isinstance(one, str):
            rows.append(row)
            continue
        row |= {"words and signs": f"{one.words:,}", "guessing": _share(one.chance)}
        row |= {"guessing, no context": _share(one.blind), "solver": words.number(one.solved)}
        rows.append(row)
    caption = (
        "Every registered task, in the easier form of the preset “direct”. Guessing and solver: mean scores, "
        f"n = {task_prompts.SOLVED} generated prompts of so many words and signs."
    )
    show_table(pd.DataFrame(rows).fillna(words.DASH), caption)


def scope(runs: list[Run]) -> str:
    """What was measured with dense attention, in a sentence."""
    table = task_tables.dense(runs)
    if table.empty:
        return "No published run holds scores of dense attention yet, so every task is not measured."
    missing = [_title(name) for name in TASKS if name not in set(table["task_name"])]
    less = [_title(name) for name in TASKS if not _has_less(table, name)]
    sizes = table.drop_duplicates("model").to_dict("records")
    models = [f"`{row['model']}` ({findings.size(row['model_parameters'])})" for row in sizes]
    text = (
        f"Dense attention was measured with {words.listed(models)} on prompts of "
        f"{words.span(table['length'])} tokens, {words.samples_of(table)} samples a cell."
    )
    if missing:
        text += f" Not measured: {words.listed(missing)}."
    rest = [name for name in less if name not in missing]
    return text + (
        f" Not measured without context or with the evidence alone: {words.listed(rest)}." if rest else ""
    )


def _has_less(table: pd.DataFrame, name: str) -> bool:
    contexts = set(table.loc[table["task_name"] == name, "task_context"])
    return {"none", "evidence"} <= contexts


def ability(runs: list[Run]) -> None:
    """Show at which lengths each model can be told from guessing."""
    table = task_tables.dense(runs)
    if table.empty:
        markdown("*Not measured:* no published run holds a task with dense attention.")
        return
    caption = (
        f"Lengths in tokens at which dense attention is better than guessing: the {words.level()} of its "
        "score lies above the chance level. Where it is no better, nothing can be learnt about sparsity."
    )
    show_table(task_tables.able(table), caption)


def sections(runs: list[Run]) -> None:
    """Show every registered task: what it is, a prompt, and its scores."""
    table = task_tables.dense(runs)
    for name in TASKS:
        html(f'<{HEADING} id="task-{assets.slug(name)}">{_title(name)}</{HEADING}>')
        describe(definition(name, TASKS))
        what = TASKS[name].measures
        markdown(f"*Measures.* Scope {what.scope}, dispersion {what.dispersion}; the text is {what.text}.")
        _prompt(name)
        _scores(name, table)


def _prompt(name: str) -> None:
    one = _shown(name)
    if isinstance(one, str):
        markdown(f"*No prompt can be shown here.* {one}")
        return
    html(task_prompts.figure(_title(name), one.sample, _caption(one)))


def _shown(name: str) -> Shown | str:
    """A prompt of a task, or why there is none.

    A text that the user fetched is never shown: the page is the same everywhere, and not all of these texts
    may be published again.
    """
    if not TASKS[name].shipped:
        return (
            "The texts are not part of the study; "
            f"`python -m sparsestudy data fetch {name}` fetches them or says how to get them."
        )
    try:
        return task_prompts.shown(TASKS[name])
    except StudyError as error:
        return str(error)


def _caption(one: Shown) -> str:
    answer = words.listed(one.sample.answer)
    return (
        f"A prompt of {one.words:,} words and signs, as the generator makes it; underlined is the evidence, "
        f"what the answer needs. Right is: {answer}. Guessing in the right form scores {_share(one.chance)} "
        f"on average, {_share(one.blind)} without the context; the rule-based solver, which reads the prompt "
        f"alone, {words.number(one.solved)} (n = {one.n} prompts of this length)."
    )


def _scores(name: str, table: pd.DataFrame) -> None:
    rows = table[table["task_name"] == name] if len(table) else table
    if rows.empty:
        markdown("*Scores:* not measured; no published run holds this task with dense attention.")
        return
    caption = (
        f"{_title(name)} with dense attention: mean scores with their {words.level()} and the number of "
        "samples, by prompt length in tokens, and what guessing in the right form scores."
    )
    show_table(task_tables.scores(rows), caption, data=rows, name=f"tasks-{name}")


def _title(name: str) -> str:
    return name.replace("_", " ")


def _share(score: float) -> str:
    """A chance level; the smallest ones are not shown as nothing."""
    return words.number(score) if score == 0 or score >= 0.005 else "almost nothing"
