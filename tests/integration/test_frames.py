"""How deep a provider call is: from the Celery task to `requests.Session.post`."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest
import requests

from embed_star.calling.gateway import PROBE_TEXT
from tasks.app import create_app
from tests.conftest import MakeWorld
from tests.support.scripted_provider import ScriptedProvider

ROOT = Path(__file__).parents[2]
OURS = (str(ROOT / "embed_star"), str(ROOT / "tasks"))
MOST = 8


@pytest.mark.parametrize("provider", ["openai", "ollama"])
@pytest.mark.parametrize("poison", [None, "name3"])
def test_a_call_for_rows_is_at_most_eight_frames_deep(
    make_http_world: MakeWorld,
    server: ScriptedProvider,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    poison: str | None,
) -> None:
    world = make_http_world(embedding_provider=provider, ollama_url=server.url)
    if poison:
        server.script(poison=poison)
    world.write_many(8)
    batch = world.claim()
    app = create_app(world.settings)
    task = app.tasks["embed_star.embed_batch"]
    post = requests.Session.post
    depths: list[list[str]] = []

    def watched(session: requests.Session, url: str, **options: Any) -> requests.Response:
        if json.loads(options["data"])["input"] != [PROBE_TEXT]:
            names = [
                f"{Path(frame.filename).relative_to(ROOT)}: {frame.name}"
                for frame in traceback.extract_stack()
                if frame.filename.startswith(OURS)
            ]
            depths.append(names)
        return post(session, url, **options)

    monkeypatch.setattr(requests.Session, "post", watched)
    try:
        outcomes = task.apply(args=[batch.to_json()]).get()["outcomes"]
    finally:
        task.services.close()
    assert len(outcomes) == 8
    assert len(depths) > 4 if poison else len(depths) == 1
    for names in depths:
        assert names[0] == "tasks/embed.py: embed_batch"
        assert len(names) <= MOST, "\n".join(names)
