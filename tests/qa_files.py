"""Small files in the official formats of SQuAD, QuALITY and TOEFL-QA, with texts of our own."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from sparsestudy.tasks.words import ADJECTIVES, NOUNS, SETTINGS

TOPICS = ("harbour", "orchard", "bridge", "mill", "tower", "market", "quarry", "ferry", "garden", "library")


def _text(rng: random.Random, fact: str, sentences: int) -> str:
    """Sentences about nothing, with a fact among them."""
    lines = [
        f"The {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} stood {rng.choice(SETTINGS)}."
        for _ in range(sentences)
    ]
    lines.insert(rng.randrange(len(lines)), fact)
    return " ".join(lines)


def squad(articles: int = 30, paragraphs: int = 6) -> bytes:
    """Articles of several paragraphs, each with an answerable question, its double, and one that is not."""
    rng = random.Random(1)
    data = []
    for i in range(articles):
        entries = []
        for j in range(paragraphs):
            year, topic = str(1100 + i * paragraphs + j), TOPICS[j % len(TOPICS)]
            text = _text(rng, f"The {topic} of town {i} was built in the year {year}.", 6)
            start = text.index(year)
            answers = [{"text": year, "answer_start": start}] * 3
            answers.append({"text": f"the year {year}", "answer_start": start - 9})
            ask = f"When was the {topic} of town {i} built?"
            entries.append(
                {
                    "context": text,
                    "qas": [
                        {"id": f"{i}-{j}-0", "question": ask, "answers": answers, "is_impossible": False},
                        {
                            "id": f"{i}-{j}-1",
                            "question": f"{ask} ",
                            "answers": answers,
                            "is_impossible": False,
                        },
                        {
                            "id": f"{i}-{j}-2",
                            "question": f"When did the {topic} fall?",
                            "answers": [],
                            "plausible_answers": answers[:1],
                            "is_impossible": True,
                        },
                    ],
                }
            )
        data.append({"title": f"Town_{i}", "paragraphs": entries})
    return json.dumps({"version": "v2.0", "data": data}).encode()


def quality(articles: int = 40) -> bytes:
    """Two lines an article, as two writers asked about each; a few have no gold label."""
    rng = random.Random(2)
    lines = []
    for i in range(articles):
        text = _text(rng, f"The captain of ship {i} kept a {ADJECTIVES[i]} parrot.", 30)
        for writer in range(2):
            place = rng.randrange(4)
            options = [f"a {ADJECTIVES[(i + 1 + k) % len(ADJECTIVES)]} parrot" for k in range(4)]
            options[place] = f"a {ADJECTIVES[i]} parrot"
            asked: dict[str, Any] = {"options": options, "writer_label": place + 1, "difficult": 0}
            asked["question"] = f"What did the captain of ship {i} keep, as writer {writer} asks?"
            unlabelled = {"question": "What else?", "options": options}
            lines.append(
                {
                    "article_id": f"{20000 + i}",
                    "set_unique_id": f"{i}_{writer}",
                    "title": f"Ship {i}",
                    "article": f"\n{text}\n",
                    "questions": [asked | {"gold_label": place + 1}, unlabelled],
                }
            )
    return "\n".join(map(json.dumps, lines)).encode() + b"\n"


def toefl(folder: Path, transcripts: int = 40) -> Path:
    """A checkout: one file a question, several questions a transcript, some with two right options."""
    rng = random.Random(3)
    for i in range(transcripts):
        lines = [f"the {rng.choice(NOUNS)} is {rng.choice(ADJECTIVES)} ." for _ in range(40)]
        for number in (1, 2):
            right = {rng.randrange(4)} if number == 1 else {0, rng.randrange(1, 4)}
            options = [f"OPTION the {NOUNS[i + k]} {int(k in right)}" for k in range(4)]
            text = [f"SENTENCE {line}" for line in [*lines, f"transcript {i} ends ."]]
            text += [f"QUESTION what does speaker {i} say in question {number}", *options]
            file = folder / "data" / ("train", "dev", "test")[i % 3] / f"tpo_{i}-lecture_1_{number}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(text) + "\n", encoding="utf-8")
    (folder / "README.md").write_text("# A checkout\n", encoding="utf-8")
    return folder
