"""What keeps a write from anybody but the owner of a job."""

from __future__ import annotations

from shared.errors import ClaimLost
from shared.job import Claim


def fence(claim: Claim) -> dict[str, str | int | float | None]:
    """The fence of an owner's write, and the token by which its repeat is recognised."""
    return {
        "id": claim.job_id,
        "attempt": claim.attempt,
        "worker": claim.worker_id,
        "finish": f"{claim.worker_id}/{claim.attempt}",
    }


def lost(claim: Claim) -> ClaimLost:
    """What is raised when the fence has refused a write."""
    return ClaimLost(f"Attempt {claim.attempt} of job {claim.job_id} is no longer owned by worker {claim.worker_id}.")
