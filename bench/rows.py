"""Rows like those of production: lengths, languages and topics as on GitHub, by a seed."""

from __future__ import annotations

import json
import random
from typing import Any

from embed_star.devstack import examples

_LONGEST = 350  # GitHub's own limit of a description
_LANGUAGES = {
    "Python": 18,
    "JavaScript": 17,
    "TypeScript": 14,
    "Java": 10,
    "Go": 8,
    "C++": 7,
    "Rust": 6,
    "C": 5,
    "Ruby": 3,
    None: 12,
}
_FOREIGN = (
    "一个用于后台任务的分布式队列",
    "高性能 向量数据库 与 检索 引擎",
    "Быстрый разбор журналов и метрик",
    "ファイルを暗号化して保存するツール",
    "مكتبة لمعالجة النصوص",
    "🚀 blazing fast 🔥",
)


class RowMaker:
    """Makes new repositories, and new descriptions for them; the same ones for a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        lines = examples.find("repos.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        self._words = [word for row in rows for word in (row["description"] or "").split()]
        self._topics = sorted({topic for row in rows for topic in row["topics"]})

    def new(self, number: int) -> dict[str, Any]:
        """The fields of repository `number`."""
        draw = self._random
        owner = f"{draw.choice(self._topics)}-{number % 9973}"
        languages, weights = list(_LANGUAGES), list(_LANGUAGES.values())
        return {
            "full_name": f"{owner}/{draw.choice(self._topics)}-{number}",
            "description": self.description(),
            "language": draw.choices(languages, weights)[0],
            "topics": draw.sample(self._topics, min(20, int(draw.expovariate(1 / 4)))),
            "stargazers_count": int(draw.paretovariate(0.6)),
            "owner": {"login": owner},
        }

    def description(self) -> str:
        """Words of real descriptions: 60 characters in the median, one in eight not Latin."""
        draw = self._random
        length = min(_LONGEST, int(draw.lognormvariate(4.1, 0.6)))
        words = [draw.choice(_FOREIGN)] if draw.random() < 1 / 8 else []
        while sum(map(len, words)) + len(words) < length:
            words.append(draw.choice(self._words))
        return " ".join(words)
