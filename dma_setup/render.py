"""Text made of templates and values.

Two uses, one environment: files from `templates/` and the strings of recipes (`{{ name }}` and the expressions of
`when:`). Undefined names are errors. Answers are values in the context and are never themselves rendered. A secret is
never in a context (`context` refuses one), so no template can leak it.

Filters: `dmaconf` passes a value that dma.conf can hold and refuses the rest, `unit` does so for systemd unit files,
`sh` quotes a word for a shell or crontab line.
"""

from __future__ import annotations

import shlex
from functools import lru_cache
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from dma_runtime.config import split_line
from dma_runtime.secret import Secret
from dma_setup import resources
from dma_setup.errors import SetupError


def dmaconf(value: object) -> str:
    """A value as dma.conf can hold it: the grammar has no quoting, so what would not come back is refused."""
    text = str(value)
    if any(ord(c) < 32 or ord(c) == 127 for c in text) or split_line("KEY " + text) != ("KEY", text):
        raise SetupError(f"dma.conf cannot hold the value {text!r}")
    return text


def unit(value: object) -> str:
    """A value as a systemd unit file can hold it: one line, `%` doubled."""
    text = str(value)
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise SetupError(f"a unit file cannot hold the value {text!r}")
    return text.replace("%", "%%")


def _environment() -> SandboxedEnvironment:
    made = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(resources.templates()),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    made.filters["dmaconf"] = dmaconf
    made.filters["unit"] = unit
    made.filters["sh"] = lambda value: shlex.quote(str(value))
    return made


_made: SandboxedEnvironment | None = None


def environment() -> SandboxedEnvironment:
    global _made
    if _made is None:
        _made = _environment()
    return _made


def context(values: dict[str, Any]) -> dict[str, Any]:
    """`values` without secrets: a template that names one fails as for any undefined name."""
    return {name: value for name, value in values.items() if not isinstance(value, Secret)}


def template(name: str, values: dict[str, Any]) -> str:
    """The file `templates/NAME`, rendered. Raises SetupError naming the template."""
    try:
        return environment().get_template(name).render(context(values))
    except jinja2.TemplateError as error:
        raise SetupError(f"template {name}: {error}") from error


def text(source: str, values: dict[str, Any]) -> str:
    """A recipe's string with its `{{ … }}` filled in."""
    if "{" not in source:
        return source
    try:
        return environment().from_string(source).render(context(values))
    except jinja2.TemplateError as error:
        raise SetupError(f"recipe: {source!r}: {error}") from error


def truth(source: str, values: dict[str, Any]) -> bool:
    """A recipe's `when:` expression."""
    try:
        return bool(environment().compile_expression(source, undefined_to_none=False)(**context(values)))
    except jinja2.TemplateError as error:
        raise SetupError(f"recipe: when: {source!r}: {error}") from error


@lru_cache(maxsize=512)
def wrong(source: str, is_condition: bool) -> str:
    """What is wrong with the syntax of a recipe's string, "" when nothing is. Names are looked up only when it is filled in."""
    try:
        if is_condition:
            environment().compile_expression(source)
        elif "{" in source:
            environment().parse(source)
    except jinja2.TemplateError as error:
        return f"{source!r}: {error.message}"
    return ""


def fill(value: Any, values: dict[str, Any]) -> Any:
    """Every string inside `value` (dictionaries and lists included) with its `{{ … }}` filled in."""
    if isinstance(value, str):
        return text(value, values)
    if isinstance(value, dict):
        return {key: fill(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, values) for item in value]
    return value
