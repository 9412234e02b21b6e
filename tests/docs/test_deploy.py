"""docs/deploy.md tells every setting as it is."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from shared.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs/deploy.md").read_text()
ROW = re.compile(
    r"^\| `((?:SPOOL|AWS|OTEL)_\w+)` \| (?:`(\S+)`)? ?\| (yes)? ?\| ([AWC](?: [AWC])*) \| .+ \|$", re.MULTILINE
)


def name_of(name: str, field: FieldInfo) -> str:
    """The variable that sets a field; the first where there are several."""
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"SPOOL_{name.upper()}"


def default_of(field: FieldInfo) -> str:
    """A default as the table writes it; empty for none."""
    match field.default:
        case None | () | {}:
            return ""
        case bool():
            return str(field.default).lower()
        case int() | float():
            return f"{field.default:g}"
    return str(field.default)


def test_the_table_holds_every_setting_with_its_default_and_whether_it_is_secret():
    """No setting is missing, none is invented, and defaults and secrets are those of shared/settings.py."""
    told = {name: (default, bool(secret)) for name, default, secret, _ in ROW.findall(PAGE)}
    real = {
        name_of(name, field): (default_of(field), "SecretStr" in str(field.annotation))
        for name, field in Settings.model_fields.items()
    }
    assert told == real
