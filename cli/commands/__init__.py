"""The commands of `spool`, by subject: each reads what was typed, makes one call, and says what came of it."""
