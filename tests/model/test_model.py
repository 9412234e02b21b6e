"""The queue against an oracle: thousands of random verbs, in any order, compared after each."""

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import QueueMachine

#: The form of every test run: the same examples each time. It reports what it finds as it found it;
#: `--hypothesis-profile=shrink` looks for the shortest way there, `long` for what is rarer.
SHORT = settings(
    settings.get_profile("shrink"), derandomize=True, database=None, phases=(Phase.generate,), stateful_step_count=50
)
EXAMPLES = {"sqlite": 100, "libsql": 8}


@pytest.mark.timeout(0)
@pytest.mark.parametrize("adapter", EXAMPLES)
def test_the_queue_does_what_the_oracle_says(adapter, databases):
    """Every verb, repeated, late or by somebody who lost the job, leaves exactly what the design says."""
    named = settings.get_current_profile_name() in {"long", "shrink"}
    with databases.open(adapter) as store:
        run_state_machine_as_test(
            lambda: QueueMachine(store),
            settings=settings() if named else settings(SHORT, max_examples=EXAMPLES[adapter]),
        )
