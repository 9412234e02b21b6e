"""Each promise, the guard that keeps it, the fault that takes the guard out, and the test that must notice."""

from __future__ import annotations

from dataclasses import dataclass

STATEMENTS = "shared/store/statements.py"
MIGRATION = "shared/store/migrations/0001_queue.sql"
LOCAL = "shared/store/local.py"
OWNERSHIP = "tests/contract/test_ownership.py"
QUEUE = "tests/contract/test_queue.py"


@dataclass(frozen=True, slots=True)
class Guard:
    """`old` in `file` keeps the promise (its number in DESIGN); with `new` instead, `test` must fail."""

    promise: int
    what: str
    file: str
    old: str
    new: str
    test: str


GUARDS = (
    Guard(
        1,
        "every commit is on disk before it is acknowledged",
        LOCAL,
        '"synchronous = FULL"',
        '"synchronous = OFF"',
        "tests/contract/test_durability.py::test_every_commit_is_on_disk_before_it_is_acknowledged",
    ),
    Guard(
        1,
        "a batch is one transaction",
        LOCAL,
        'connection.execute("ROLLBACK")',
        'connection.execute("COMMIT")',
        "tests/contract/test_durability.py::test_a_batch_that_fails_half_way_leaves_nothing",
    ),
    Guard(
        1,
        "a repeated creation is recognised by its id",
        STATEMENTS,
        "ORDER BY place\nON CONFLICT DO NOTHING",
        "ORDER BY place",
        "tests/contract/test_repeats.py",
    ),
    Guard(
        1,
        "a claim whose reply was lost goes back to the queue",
        STATEMENTS,
        "AND id NOT IN (SELECT value ->> 'id' FROM json_each(:beats))",
        "AND id IN (SELECT value ->> 'id' FROM json_each(:beats))",
        f"{OWNERSHIP}::test_a_claim_whose_reply_was_lost_goes_back_to_the_queue",
    ),
    Guard(
        2,
        "a finish is fenced by attempt",
        STATEMENTS,
        "_OWNED = \"id = :id AND attempt = :attempt AND worker_id = :worker AND status = 'running'\"",
        "_OWNED = \"id = :id AND worker_id = :worker AND status = 'running'\"",
        f"{OWNERSHIP}::test_the_same_worker_is_fenced_by_the_attempt_number",
    ),
    Guard(
        2,
        "a finish is fenced by worker",
        STATEMENTS,
        "_OWNED = \"id = :id AND attempt = :attempt AND worker_id = :worker AND status = 'running'\"",
        "_OWNED = \"id = :id AND status = 'running'\"",
        f"{OWNERSHIP}::test_a_worker_that_lost_its_job_can_write_nothing",
    ),
    Guard(
        2,
        "lines and progress are fenced",
        STATEMENTS,
        "AND j.attempt = b.value ->> 'attempt'\n  AND j.worker_id = :worker AND j.status = 'running'",
        "",
        f"{OWNERSHIP}::test_a_late_heartbeat_writes_nothing_and_says_that_the_job_is_lost",
    ),
    Guard(
        2,
        "a heartbeat never renews a lease that ran out",
        STATEMENTS,
        "AND job.status = 'running' AND job.lease_until > {NOW}",
        "AND job.status = 'running'",
        f"{OWNERSHIP}::test_a_heartbeat_never_renews_a_lease_that_ran_out",
    ),
    Guard(
        2,
        "a repeated claim finds its job by the token",
        STATEMENTS,
        "    (SELECT seq FROM job WHERE claim_token = :token),\n",
        "    NULL,\n",
        f"{OWNERSHIP}::test_a_claim_repeated_with_its_token_is_the_same_claim",
    ),
    Guard(
        2,
        "nothing clears the claim's token",
        STATEMENTS,
        "finish_token = :finish, eta_s = NULL, updated_at = {NOW}\nWHERE {_OWNED}",
        "finish_token = :finish, claim_token = NULL, eta_s = NULL, updated_at = {NOW}\nWHERE {_OWNED}",
        f"{OWNERSHIP}::test_a_late_repeat_of_a_claim_takes_nothing",
    ),
    Guard(
        2,
        "the database refuses illegal moves",
        MIGRATION,
        "WHEN OLD.status <> NEW.status AND OLD.status || ' > '",
        "WHEN false AND OLD.status || ' > '",
        "tests/contract/test_moves.py",
    ),
    Guard(
        3,
        "cancelled is written only by an owner that was asked",
        STATEMENTS,
        " AND (:word <> 'cancelled' OR cancel_requested_at IS NOT NULL)",
        "",
        f"{OWNERSHIP}::test_cancelled_is_refused_unless_someone_asked_for_it",
    ),
    Guard(
        3,
        "a job that is to be cancelled is never queued again",
        STATEMENTS,
        "WHEN :word <> 'completed' AND cancel_requested_at IS NULL AND {_RETRIES}",
        "WHEN :word <> 'completed' AND {_RETRIES}",
        "tests/contract/test_moves.py::test_a_cancel_request_outlives_every_other_way_on",
    ),
    Guard(
        5,
        "the first by number is claimed",
        STATEMENTS,
        "type = k.value ORDER BY priority DESC, seq LIMIT 1)) & ",
        "type = k.value ORDER BY priority DESC, seq DESC LIMIT 1)) & ",
        f"{QUEUE}::test_jobs_are_claimed_in_the_order_of_their_creation",
    ),
    Guard(
        5,
        "a worker is offered only types it can run",
        STATEMENTS,
        "'pending' AND type = k.value ORDER BY priority DESC, seq LIMIT 1)) & ",
        "'pending' ORDER BY priority DESC, seq LIMIT 1)) & ",
        f"{OWNERSHIP}::test_a_worker_is_offered_only_types_it_can_run",
    ),
    Guard(
        6,
        "only failures that may pass are tried again",
        "shared/job.py",
        'frozenset({"transient", "timeout", "worker_lost"})',
        'frozenset({"transient", "timeout", "worker_lost", "permanent"})',
        "tests/contract/test_moves.py",
    ),
    Guard(
        6,
        "a lost worker costs its job a failure",
        STATEMENTS,
        "  failures = failures + (cancel_requested_at IS NULL),\n  run_at = CASE WHEN {_REAP_RETRIES}",
        "  failures = failures,\n  run_at = CASE WHEN {_REAP_RETRIES}",
        f"{OWNERSHIP}::test_a_job_that_kills_its_workers_ends_in_dead_letter",
    ),
    Guard(
        2,
        "a worker that lost a claim stops its work",
        "worker/attempt.py",
        "            self._request(Reason.LOST)\n        elif mine.cancel_requested",
        "            pass\n        elif mine.cancel_requested",
        "tests/worker/test_loop.py::test_a_lost_claim_ends_the_work_and_writes_nothing",
    ),
    Guard(
        3,
        "the end of the worker ends its children",
        "worker/launcher.py",
        "        if not data:\n            self._stop(self.grace_s)\n            return False",
        "        if not data:\n            return False",
        "tests/worker/test_launcher.py::test_the_end_of_the_pulse_ends_everything",
    ),
    Guard(
        3,
        "a worker that is frozen past its lease loses its children",
        "worker/launcher.py",
        "if now >= self.deadline and (",
        "if now >= self.deadline + 1e9 and (",
        "tests/worker/test_launcher.py::test_the_deadline_ends_everything",
    ),
    Guard(
        3,
        "what a child leaves behind is found",
        "worker/launcher.py",
        "            _prctl(_PR_SET_CHILD_SUBREAPER, 1)\n",
        "            pass\n",
        "tests/worker/test_process.py::test_what_a_program_leaves_behind_ends_with_it",
    ),
    Guard(
        3,
        "a child deaf to SIGTERM is killed",
        "worker/launcher.py",
        "        self._signal(signal.SIGKILL)\n",
        "        self._signal(signal.SIGTERM)\n",
        "tests/worker/test_launcher.py::test_the_end_of_the_pulse_ends_everything",
    ),
    Guard(
        4,
        "a percentage never falls within a stage",
        "worker/report.py",
        "self._share = max(self._share or 0.0, min(1.0, self._current / total))",
        "self._share = min(1.0, current / total)",
        "tests/worker/test_report.py",
    ),
    Guard(
        4,
        "seconds done are what ffmpeg says it did",
        "worker/ffmpeg.py",
        'seconds = int(value) / 1e6 if name == b"out_time_us" else 0.0',
        'seconds = done + 0.25 if name == b"out_time_us" else 0.0',
        "tests/worker/test_ffmpeg.py::test_progress_is_real_rises_and_ends_at_the_length",
    ),
    Guard(
        4,
        "what is unknown is null",
        "worker/report.py",
        "percent=None if self._share is None else round(100 * self._share, 1)",
        "percent=round(100 * (self._share or 0.0), 1)",
        "tests/worker/test_report.py",
    ),
    Guard(
        6,
        "whatever a stage raises is explained",
        "worker/attempt.py",
        "        except BaseException as error:",
        "        except JobFailure as error:",
        "tests/worker/test_loop.py::test_every_error_is_explained",
    ),
    Guard(
        9,
        "a playlist is not opened whatever its name",
        "worker/ffmpeg.py",
        '"-protocol_whitelist", "file,pipe", "-format_whitelist", INPUT_FORMATS',
        '"-protocol_whitelist", "file,pipe"',
        "tests/worker/test_hostile.py",
    ),
    Guard(
        9,
        "a link leads to public addresses only",
        "worker/fetch.py",
        "if not all(network.allow(address, target.port) for address in found):",
        "if not found:",
        "tests/worker/test_fetch.py::test_the_product_connects_to_no_address_that_is_not_public",
    ),
    Guard(
        7,
        "waiting jobs are found by their partial index",
        MIGRATION,
        "CREATE INDEX job_pending ON job (type, priority DESC, seq) WHERE status = 'pending';",
        "CREATE INDEX job_pending ON job (type) WHERE status = 'pending';",
        "tests/contract/test_bounds.py::test_work_does_not_grow_with_the_queue",
    ),
    Guard(
        7,
        "running jobs are found by their partial index",
        STATEMENTS,
        "FROM job WHERE worker_id = :worker AND status = 'running'\n",
        "FROM job WHERE worker_id || '' = :worker AND status || '' = 'running'\n",
        "tests/contract/test_bounds.py::test_no_statement_scans_jobs_or_events",
    ),
    Guard(
        7,
        "a position is counted to a hundred",
        STATEMENTS,
        "      LIMIT 101)) END AS ahead",
        "      )) END AS ahead",
        f"{QUEUE}::test_position_is_counted_to_a_hundred",
    ),
    Guard(
        8,
        "the tables and the row classes agree",
        "shared/schema.py",
        "    cancel_requested_at: int | None\n",
        "    cancel_requested_at: str | None\n",
        "tests/contract/test_schema.py",
    ),
)
