"""Rows with READMEs on real servers: what tests/unit/core asks of the memory twins."""

from __future__ import annotations

from tests.unit.core.test_passages import (  # noqa: F401 - collected here too
    TestARowWithAReadme,
    TestTheHits,
    TestTheReconcile,
    TestTheSearch,
    test_a_call_has_no_more_texts_than_a_batch_may_have_rows,
    test_a_change_of_model_embeds_all_anew_and_the_way_back_nothing,
    test_a_readme_that_is_part_of_the_text_has_no_passages,
)
