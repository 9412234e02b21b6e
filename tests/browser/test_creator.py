"""A creator at the page: a recording goes in, is watched, heard and taken away; what was wrong is put right."""

import json
import re
import subprocess

import pytest
from playwright.sync_api import Page, expect

from tests.browser.screen import PATIENCE_MS

expect.set_options(timeout=PATIENCE_MS)
#: Keeps every value that a progress bar of the page has shown, by stage.
_RECORD = """
window.shown = [];
new MutationObserver(() => {
  const bar = document.querySelector(".life [role=progressbar]");
  const stage = document.querySelector(".stages .moving")?.innerText.split("\\n")[0];
  const value = bar?.getAttribute("aria-valuenow");
  const last = window.shown.at(-1);
  if (!stage || value == null || (last?.[0] === stage && last[1] === Number(value))) return;
  window.shown.push([stage, Number(value)]);
}).observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
"""


def drop(page: Page, target: str, path) -> None:
    """Drop a file on the page, as a hand does."""
    page.evaluate("void (window.file = new Promise((found) => window.found = found))")
    page.evaluate(
        """() => {
          const input = Object.assign(document.createElement("input"), {type: "file", id: "hand"});
          input.onchange = () => window.found(input.files[0]);
          document.documentElement.append(input);
        }"""
    )
    page.set_input_files("#hand", path)
    page.evaluate(
        """async (target) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(await window.file);
          document.getElementById("hand").remove();
          const there = document.querySelector(target);
          for (const kind of ["dragover", "drop"]) {
            there.dispatchEvent(new DragEvent(kind, {dataTransfer, bubbles: true, cancelable: true}));
          }
        }""",
        target,
    )


def field(page: Page, name: str):
    """A field of the form, by its label."""
    return page.get_by_label(re.compile(rf"^{name}"))


def test_a_recording_dropped_on_the_landing_page_is_watched_heard_and_taken_away(visitor, studio, long_talk, tmp_path):
    """The whole way: the job starts at once, its progress rises, the result plays, the download is the file."""
    page = visitor.open("/")
    page.add_init_script(_RECORD)
    drop(page, ".drop", long_talk)
    expect(page.locator("h1")).to_have_text(re.compile("long talk.wav"))
    expect(page.get_by_role("region", name="Finished files")).to_be_visible()
    shown = page.evaluate("window.shown")
    by_stage = {stage: [value for one, value in shown if one == stage] for stage, _ in shown}
    assert max(map(len, by_stage.values())) >= 3, shown
    assert all(values == sorted(values) for values in by_stage.values()), shown

    job = studio.jobs()[0]
    assert (job["status"], job["name"]) == ("completed", "long talk.wav")
    expect(page.get_by_role("region", name="Loudness", exact=True)).to_contain_text("−16.0")
    assert (
        page.evaluate("document.querySelector('.player').play().then(() => document.querySelector('.player').duration)")
        > 299
    )
    with page.expect_download() as taken:
        page.get_by_role("link", name="Download mp3").click()
    taken.value.save_as(tmp_path / "taken.mp3")
    assert taken.value.suggested_filename == "long talk.mp3"
    assert (tmp_path / "taken.mp3").stat().st_size == job["outputs"][0]["size_bytes"]


def test_a_file_that_cannot_be_sent_keeps_no_other_back(visitor, studio, recordings):
    """Of files dropped together each is sent or named with its reason, and the page stays until that was read."""
    (empty := studio.dev.folder / "empty.wav").touch()
    before = len(studio.jobs(text="counting.wav"))
    page = visitor.open("/")
    page.set_input_files(".drop input", [empty, recordings.counting])
    told = page.get_by_role("alert")
    expect(told).to_have_text(
        "empty.wav: The file is empty. Wait until the recording is finished, then send it. 1 of 2 are in the queue."
    )
    assert len(studio.jobs(text="counting.wav")) == before + 1
    page.set_input_files(".drop input", [empty])
    expect(told).to_have_text("The file is empty. Wait until the recording is finished, then send it.")


def test_too_many_in_a_minute_are_waited_for(visitor, studio, recordings):
    """The second request of a drop may be one too many; it is sent again when the server says so."""
    page = visitor.open("/")
    visitor.expected = ["429"]
    refused = []

    def once(route):
        if refused:
            return route.fallback()
        refused.append(route.request.url)
        body = '{"code": "rate_limited", "detail": "You may write 60 times a minute."}'
        return route.fulfill(status=429, headers={"Retry-After": "1"}, content_type="application/json", body=body)

    page.route("**/api/jobs", once)
    page.set_input_files(".drop input", recordings.counting)
    expect(page.locator("h1")).to_have_text(re.compile("counting.wav"))
    assert len(refused) == 1


def test_the_original_is_compared_at_the_same_loudness(visitor, studio, recordings):
    """A and B change places where they play, and the louder one comes down by just the difference."""
    page = visitor.open("/dashboard#/")
    drop(page, "main", recordings.speech)
    expect(page.get_by_role("region", name="Finished files")).to_be_visible()
    page.evaluate("document.querySelector('.player').currentTime = 12")
    page.get_by_role("button", name="Original").click()
    expect(page.get_by_label("At matched loudness")).to_be_checked()
    original, mp3 = (f"document.querySelector('.player[data-name={name}]')" for name in ("original", "mp3"))
    assert page.evaluate(f"{original}.currentTime") == pytest.approx(12, abs=0.5)
    assert page.evaluate(f"{original}.volume") == 1
    result = studio.jobs()[0]["result"]
    apart = result["after"]["mp3"]["integrated_lufs"] - result["before"]["integrated_lufs"]
    assert page.evaluate(f"{mp3}.volume") == pytest.approx(10 ** (-apart / 20), rel=0.01)
    page.keyboard.press("b")
    expect(page.get_by_role("button", name="mp3")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("At matched loudness").uncheck()
    assert page.evaluate(f"{mp3}.volume") == 1


def test_a_failure_says_whose_it_is_and_the_job_runs_again_with_a_change(visitor, studio, recordings):
    """A file that cannot be read ends with its cause and advice; the form of the same job takes another file."""
    (bad := studio.dev.folder / "notes.wav").write_bytes(b"these are no sounds" * 1000)
    page = visitor.open("/")
    page.set_input_files(".drop input", bad)
    problem = page.get_by_role("region", name="What went wrong")
    expect(problem).to_contain_text("not a sound or video file")
    expect(problem).to_contain_text("The file")
    page.get_by_role("link", name="Retry with changes").click()
    page.set_input_files(".source input[type=file]", recordings.counting)
    expect(page.get_by_text("counting.wav, sent")).to_be_visible()
    field(page, "Title").fill("Counting, again")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("h1")).to_have_text(re.compile("Counting, again"))
    expect(page.get_by_role("region", name="Finished files")).to_be_visible()
    job = studio.jobs()[0]
    assert job["params"]["title"] == "Counting, again"
    assert job["status"] == "completed"


def test_the_form_makes_every_part_of_the_request(operator, queue):
    """Choices, numbers, a list of objects and the order of a job arrive as the schema has them."""
    page = operator.open("/dashboard#/new")
    page.get_by_label("Link, or the id of an upload").fill("https://example.org/talk.mp3")
    field(page, "Preset").select_option(label="YouTube, -14 LUFS")
    field(page, "Ceiling").fill("-2.5")
    page.get_by_role("button", name="Add output").click()
    page.get_by_role("button", name="Add output").click()
    entries = page.locator(".entries > li")
    entries.nth(1).get_by_label(re.compile("^Format")).select_option("flac")
    entries.nth(0).get_by_label(re.compile("^Bitrate")).fill("192")
    page.get_by_role("button", name="Move Output 2 up").click()
    page.get_by_text("When and how").click()
    field(page, "Priority").fill("7")
    field(page, "Tags").fill("show, raw ")
    field(page, "Tags").blur()
    page.get_by_role("button", name="JSON").click()
    written = json.loads(page.get_by_label("The request").input_value())
    page.get_by_role("button", name="Form").click()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("h1")).to_have_text(re.compile("talk.mp3"))
    (job,) = queue.jobs()
    assert (
        job["params"]
        == written["params"]
        == {
            "source": "https://example.org/talk.mp3",
            "preset": "youtube",
            "ceiling_dbtp": -2.5,
            "outputs": [{"format": "flac"}, {"format": "mp3", "bitrate_kbps": 192}],
        }
    )
    assert (job["priority"], job["tags"]) == (7, ["show", "raw"])


def test_a_copied_line_makes_the_same_job(operator, queue):
    """Copy as curl, from the form and from a job's page, is a command that a shell runs as it is."""
    operator.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = operator.open("/dashboard#/new")
    page.get_by_label("Link, or the id of an upload").fill("https://example.org/talk.mp3")
    field(page, "Title").fill('It\'s $HOME and "more"')
    for _ in range(2):
        page.get_by_role("button", name="Copy as curl").click()
        expect(page.get_by_text("The curl command copied.")).to_be_visible()
        line = page.evaluate("navigator.clipboard.readText()")
        ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=True)
        made = json.loads(ran.stdout)
        assert made["params"] == {"source": "https://example.org/talk.mp3", "title": 'It\'s $HOME and "more"'}
        page.goto(f"{operator.url}/dashboard#/jobs/{made['id']}")
        page.reload()
    assert len(queue.jobs()) == 2


def test_a_preset_in_numbers_stays_chosen_until_another_is(operator, queue):
    """A job of a deployment's own preset tried again: the form shows its title, and keeps its numbers."""
    house = {"name": "house", "title": "Our show", "target_lufs": -17, "ceiling_dbtp": -1.5}
    first = queue.submit(params={"source": "https://example.org/talk.mp3", "preset": house})
    for chosen, sent in ((None, house), ("YouTube, -14 LUFS", "youtube")):
        page = operator.open(f"/dashboard#/new?from={first['id']}")
        preset = field(page, "Preset")
        expect(preset.locator("option:checked")).to_have_text("Our show")
        if chosen:
            preset.select_option(label=chosen)
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("h1")).to_have_text(re.compile("talk.mp3"))
        assert queue.jobs()[0]["params"]["preset"] == sent


def test_an_error_stands_beside_its_field(operator, queue):
    """What the server refuses is said at the field that it names, deep in a list too, and is gone when it is mended."""
    operator.expected = ["422"]
    page = operator.open("/dashboard#/new")
    page.get_by_label("Link, or the id of an upload").fill("https://example.org/talk.mp3")
    page.get_by_role("button", name="Add output").click()
    bitrate = page.get_by_label(re.compile("^Bitrate"))
    bitrate.fill("7")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(bitrate).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#field-outputs-0-bitrate_kbps-error")).to_contain_text("greater than or equal to 32")
    expect(bitrate).to_be_focused()
    bitrate.fill("64")
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("h1")).to_have_text(re.compile("talk.mp3"))
    assert len(queue.jobs()) == 1


def test_every_job_type_has_a_form(operator, queue):
    """Each published schema is drawn: a field or a group for each of its parameters, and JSON that is the same."""
    page = operator.open("/dashboard#/new")
    for kind in queue.api.get("/api/job-types").json()["items"]:
        page.get_by_label("Type").select_option(value=kind["name"])
        for name in kind["params"].get("properties", {}):
            expect(page.locator(f"[id^=field-{name}], fieldset:has([id^=field-{name}-])").first).to_be_attached()
        page.get_by_role("button", name="JSON").click()
        assert json.loads(page.get_by_label("The request").input_value())["type"] == kind["name"]
        page.get_by_role("button", name="Form").click()
