"""What a crash leaves behind."""

from tests.reliability.guards.guard import CRASHES, Guard

GUARDS = (
    Guard(
        1,
        "files are deleted before the row that knows of them",
        "functions/jobs.py",
        '        call.storage.delete_prefix(f"outputs/{job_id}/")\n    call.store.purge(call.id)\n',
        '        call.store.purge(call.id)\n        call.storage.delete_prefix(f"outputs/{job_id}/")\n',
        f"{CRASHES}::test_a_request_that_an_api_died_of_can_be_sent_again",
    ),
    Guard(
        1,
        "an upload is forgotten after its file",
        "functions/uploads.py",
        "    call.storage.delete_prefix(asset.key)\n    call.store.forget_asset(asset.id)\n",
        "    call.store.forget_asset(asset.id)\n    call.storage.delete_prefix(asset.key)\n",
        f"{CRASHES}::test_a_request_that_an_api_died_of_can_be_sent_again",
    ),
    Guard(
        1,
        "a repeated retry finds the job of the first",
        "shared/store/sql/creation.py",
        "replace(new, idempotency_key=key, ",
        "replace(new, ",
        f"{CRASHES}::test_a_request_that_an_api_died_of_can_be_sent_again",
    ),
    Guard(
        1,
        "a stored file appears when all its bytes are there",
        "shared/storage/local.py",
        '            with around("file.data"):\n                self._part.rename(data)\n'
        "            _sync(self._folder)\n            try:\n                self._place(record, replace=replace)\n",
        "            try:\n                self._place(record, replace=replace)\n"
        '                with around("file.data"):\n                    self._part.rename(data)\n',
        f"{CRASHES}::test_a_request_that_an_api_died_of_can_be_sent_again",
    ),
    Guard(
        2,
        "outputs of an attempt are its own",
        "worker/transfer.py",
        'key = f"outputs/{run.job.id}/{run.job.attempt}/{file.name}"',
        'key = f"outputs/{run.job.id}/1/{file.name}"',
        f"{CRASHES}::test_what_a_losing_attempt_stored_is_deleted_by_the_next",
    ),
    Guard(
        3,
        "what a losing attempt stored is deleted",
        "worker/attempt.py",
        "            self._drop_losers(storage)\n",
        "",
        f"{CRASHES}::test_what_a_losing_attempt_stored_is_deleted_by_the_next",
    ),
    Guard(
        3,
        "the folders of dead workers are removed",
        "worker/folders.py",
        '                        shutil.rmtree(path.with_suffix(""), ignore_errors=True)\n',
        "                        pass\n",
        f"{CRASHES}::test_what_a_losing_attempt_stored_is_deleted_by_the_next",
    ),
    Guard(
        3,
        "a part that nobody sends on is dropped",
        "shared/storage/local.py",
        "                    part.unlink()\n",
        "                    pass\n",
        f"{CRASHES}::test_what_a_dead_upload_left_is_dropped",
    ),
    Guard(
        1,
        "no process kills itself on a database that is not on its machine",
        "shared/crash.py",
        "if order is None or not local or",
        "if order is None or",
        "tests/chaos/test_arming.py",
    ),
)
