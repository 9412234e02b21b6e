"""Parameters of `maintenance`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from shared.types.base import JobParams

Duty = Literal["prune", "vacuum", "integrity", "backup", "restore-check", "orphans"]
_ONLY = {"keep": "backup", "delete": "orphans"}


class MaintenanceParams(JobParams):
    """One thing that keeps a deployment well."""

    duty: Duty = Field(
        description="prune: delete what is past its retention time. vacuum: give unused pages of an SQLite file back "
        "to the disk. integrity: look for damage in the database. backup: copy the queue into the storage. "
        "restore-check: restore the newest backup into a scratch database and look at it. orphans: find stored files "
        "that nobody knows."
    )
    keep: int | None = Field(
        default=None, ge=1, le=365, description="Backups to keep, the newest ones; 7 when left out. For backup only."
    )
    delete: bool = Field(default=False, description="Delete what was found. For orphans only.")

    @model_validator(mode="after")
    def _options_belong_to_the_duty(self) -> Self:
        for name, duty in _ONLY.items():
            if getattr(self, name) and self.duty != duty:
                raise ValueError(f"{name} is for the duty {duty}; leave it out")
        return self
