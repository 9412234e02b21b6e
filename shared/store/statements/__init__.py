"""Every statement of the queue, written once for SQLite and libSQL; a module per subject.

Named parameters; JSON arrays carry lists; time is the database's own. A write of an owner carries its fence
(id, attempt, worker id, status running) in its WHERE. `shared/store/sql/` puts them into atomic batches.
"""
