"""docs/job-types.md and docs/api.md tell what the code is; tests/cli executes their examples."""

from __future__ import annotations

import re

import pytest

from functions.reference import job_types
from functions.reference.pages import DOCS, PAGES
from shared.presets import CONTEXT, PRESETS
from shared.types import JOB_TYPES


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_committed_page_is_the_one_the_code_makes(path):
    """`python -m functions.reference` writes it."""
    assert path.read_text(encoding="utf-8") == PAGES[path]()


@pytest.mark.parametrize("name", JOB_TYPES)
def test_every_type_brings_an_example_that_its_parameters_take(name):
    """In shared/types/<type>.toml; a type that takes files shows one."""
    example = job_types.told(name).example
    model = JOB_TYPES[name].params
    read = model.model_validate(example.request.get("params", {}))
    assert read.sources or not {"source", "files"} & set(model.model_fields)
    assert f" {name} " in example.cli


@pytest.mark.parametrize("name", JOB_TYPES)
def test_every_type_keeps_the_presets_of_its_deployment(name):
    """With all presets changed, what a job keeps means the same to a worker that knows only those of Spool."""
    changed = {
        one: preset.model_copy(update={"target_lufs": preset.target_lufs - 1}) for one, preset in PRESETS.items()
    }
    model = JOB_TYPES[name].params
    made = model.model_validate(job_types.told(name).example.request.get("params", {}), context={CONTEXT: changed})
    assert model.model_validate(made.model_dump(mode="json", exclude_unset=True)) == made


@pytest.mark.parametrize("name", PAGES, ids=lambda path: path.name)
def test_every_link_of_a_page_leads_somewhere(name):
    """Each names a heading of its page, as Markdown's readers make anchors."""
    text = name.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
    assert len(anchors) == len(headings)


def test_the_other_pages_name_only_presets_that_there_are():
    """A creator who copies one is not refused."""
    pages = [DOCS.parent / "README.md", *DOCS.glob("*.md")]
    named = {one for page in pages for one in re.findall(r"--preset (\S+)", page.read_text(encoding="utf-8"))}
    assert named <= set(PRESETS)
    assert len(named) > 2
