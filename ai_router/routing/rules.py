"""`routes:` of models.yaml: which model answers what. The first that matches wins; one without `match` takes the rest.

    routes:
      - match: {language: ja, max_tokens: 2000}
        use: demo
      - match: {category: [coding, math], keywords: [SQL, Python]}
        use: [small, large]         # large where small cannot, or where its answer fails the check
        check: {json: true}

A mistake is named with file, line and nearest key, and nothing is routed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import regex

from ai_router.models import Registry
from ai_router.models.apart import read_apart
from ai_router.routing.checks import Check, CheckError, check_of
from ai_router.routing.cues import CATEGORIES
from ai_router.routing.features import has_code
from ai_router.routing.language import LANGUAGES, language_of
from batch.errors import BatchError
from batch.items import Request
from batch.options import nearest
from batch.yamlfile import YamlList, YamlMap, plain, unknown_key

REGEX_SECONDS = 0.25
MATCH_KEYS = (
    "regex", "keywords", "language", "min_tokens", "max_tokens", "code", "schema", "column", "category", "likely",
)  # fmt: skip
ROUTE_KEYS = ("name", "match", "use", "check", "pass_filtered", "lane")
PROVIDER_LANES = ("batch", "now", "auto")
_ARROW = " → "


class RouteError(BatchError):
    """A route that cannot be; the text names file and line."""


def about_tokens(text: str) -> int:
    """Roughly how many tokens a text is: a token for four bytes of Latin text, one for each wide character."""
    wide = sum(character >= "\u2e80" for character in text)
    return wide + (len(text) - wide + 3) // 4


@dataclass(frozen=True, slots=True)
class Match:
    """What a route asks of an item; what is None, or empty, is not asked."""

    pattern: Any = None
    keywords: tuple[str, ...] = ()  # in lower case; one is enough
    languages: tuple[str, ...] = ()
    min_tokens: int | None = None
    max_tokens: int | None = None
    code: bool | None = None
    schema: bool | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    likely: float = 0.0  # the category's least probability

    @property
    def needs_category(self) -> bool:
        """Whether the classifier has to be asked."""
        return bool(self.categories)


@dataclass(frozen=True, slots=True)
class Route:
    """One route: what it asks, the chain of models, and the check that an answer must pass to stay."""

    line: int
    match: Match
    use: tuple[str, ...]
    name: str = ""
    check: Check | None = None
    way: str = ""  # of a provider's model: `batch`, `now` or `auto`; "" as models.yaml and the run have it
    pass_filtered: bool = False  # whether the chain goes on where a content filter holds an answer back

    @property
    def lane(self) -> str:
        """What an item's model is called: the model, or the whole chain."""
        return lane_of(self.use, self)

    def fits(self, request: Request, category: tuple[str, float] | None) -> str | None:
        """Why an item falls under it, in a few words; None where it does not. Raises RouteError on a slow regex."""
        said: list[str] = []
        for test in (self._size, self._schema, self._columns, self._language, self._code, self._words, self._regex):
            if not test(request, said):
                return None
        if self.match.categories:
            if category is None or category[0] not in self.match.categories or category[1] < self.match.likely:
                return None
            said.append(f"{category[0]} ({category[1]:.0%})")
        return ", ".join(said) or "all that is left"

    def _size(self, request: Request, said: list[str]) -> bool:
        low, high = self.match.min_tokens, self.match.max_tokens
        if low is None and high is None:
            return True
        tokens = about_tokens(request.text)
        said.append(f"about {tokens:,} tokens")
        return (low or 0) <= tokens and (high is None or tokens <= high)

    def _schema(self, request: Request, said: list[str]) -> bool:
        if (wanted := self.match.schema) is None:
            return True
        said.append("needs a schema" if wanted else "needs no schema")
        return wanted == _wants_schema(request)

    def _language(self, request: Request, said: list[str]) -> bool:
        if not self.match.languages:
            return True
        said.append(f"language {(language := language_of(request.text))}")
        return language in self.match.languages

    def _code(self, request: Request, said: list[str]) -> bool:
        if (wanted := self.match.code) is None:
            return True
        said.append("has code" if wanted else "has no code")
        return has_code(request.text) == wanted

    def _words(self, request: Request, said: list[str]) -> bool:
        if not self.match.keywords:
            return True
        low = request.text.lower()
        word = next((word for word in self.match.keywords if word in low), None)
        said.append(f"says {word!r}")
        return word is not None

    def _columns(self, request: Request, said: list[str]) -> bool:
        columns = request.columns or {}
        for name, values in self.match.columns.items():
            if str(columns.get(name, "")) not in values:
                return False
            said.append(f"{name} is {columns[name]}")
        return True

    def _regex(self, request: Request, said: list[str]) -> bool:
        if self.match.pattern is None:
            return True
        try:
            found = self.match.pattern.search(request.text, timeout=REGEX_SECONDS)
        except TimeoutError:
            raise RouteError(
                f"The regex of the route in line {self.line} takes over {REGEX_SECONDS:g} s on an item; "
                "write a simpler one"
            ) from None
        if found:
            said.append("the regex matches")
        return bool(found)


def lane_of(models: Sequence[str], route: Route) -> str:
    """What the lane of these models of a route is called; of two lanes with one name, both do the same."""
    beside = [route.check.text] if route.check and len(models) > 1 else []
    beside += [route.way] if route.way else []
    beside += ["past filters"] if route.pass_filtered and len(models) > 1 else []
    return _ARROW.join(models) + (f" ({'; '.join(beside)})" if beside else "")


def _wants_schema(request: Request) -> bool:
    params = request.params
    return bool(params.get("response_format") or params.get("json_schema") or params.get("schema"))


def read_routes(file: Path, registry: Registry) -> list[Route]:
    """The routes of a models.yaml; none where it has none. Raises RouteError for the first mistake."""
    try:
        data, spoiled = read_apart(file)
    except FileNotFoundError:
        return []
    if wrong := [one.why for one in spoiled if one.name == "routes" and not one.is_model]:
        raise RouteError(wrong[0])
    said = data.get("routes")
    if said is None:
        return []
    where = f"{file}, line {data.line_of('routes')}"
    if not isinstance(said, list):
        raise RouteError(f"{where}: routes must be a list, each with match and use")
    routes = []
    for entry in said:
        if not isinstance(entry, YamlMap):
            raise RouteError(f"{where}: a route has keys and values, such as use: MODEL")
        routes.append(_Reader(file, entry, registry).route())
    for number, route in enumerate(routes[:-1]):
        if route.match == Match():
            raise RouteError(
                f"{file}, line {route.line}: this route matches everything, so those after it (from line "
                f"{routes[number + 1].line} on) never do; move it to the end"
            )
    return routes


@dataclass(frozen=True, slots=True)
class _Reader:
    file: Path
    entry: YamlMap
    registry: Registry

    def error(self, values: YamlMap, key: str, problem: str) -> RouteError:
        line = values.lines.get(key, values.line)
        return RouteError(f"{self.file}, line {line}: {problem}")

    def route(self) -> Route:
        for key in self.entry:
            if key not in ROUTE_KEYS:
                raise self.error(self.entry, key, unknown_key(key, ROUTE_KEYS))
        said = self.entry.get("check")
        try:
            check = None if said is None else check_of(said)
        except CheckError as error:
            raise self.error(self.entry, "check", str(error)) from None
        use = self.use()
        if check is not None and len(use) < 2:
            raise self.error(self.entry, "check", "a check needs a second model that answers where it fails")
        name = self.entry.get("name")
        passed = self.flag(self.entry, "pass_filtered") or False
        if passed and len(use) < 2:
            raise self.error(self.entry, "pass_filtered", "pass_filtered needs a second model that answers then")
        said_name = str(name) if name is not None else ""
        return Route(self.entry.line, self.match(), use, said_name, check, self.way(use[0]), passed)

    def way(self, model: str) -> str:
        said = self.entry.get("lane")
        if said is None:
            return ""
        if said not in PROVIDER_LANES:
            raise self.error(self.entry, "lane", f"lane is {', '.join(PROVIDER_LANES)}, not {plain(said)}")
        if (engine := self.registry.get(model).engine) != "provider":
            raise self.error(self.entry, "lane", f"lane is for a provider's model; {model} runs on {engine}")
        return str(said)

    def use(self) -> tuple[str, ...]:
        said = self.entry.get("use")
        names = _texts(said, self.entry.texts.get("use"))
        if not names:
            raise self.error(self.entry, "use", "the route names no model; say which with use: MODEL")
        found: list[str] = []
        for name in names:
            spec = self.registry.listed(name)
            if spec is None:
                ids = [one.id for one in self.registry.all()]
                near = nearest(name, ids)
                hint = f"did you mean {near}?" if near else f"known: {', '.join(ids)}"
                raise self.error(self.entry, "use", f"there is no model {name} ({hint})")
            if spec.id in found:
                raise self.error(
                    self.entry, "use", f"the chain comes back to {spec.id}: {_ARROW.join([*found, spec.id])}"
                )
            found.append(spec.id)
        return tuple(found)

    def match(self) -> Match:
        said = self.entry.get("match")
        if said is None:
            return Match()
        if not isinstance(said, YamlMap):
            raise self.error(self.entry, "match", "match must hold keys and values, such as language: ja")
        for key in said:
            if key not in MATCH_KEYS:
                raise self.error(said, key, unknown_key(key, MATCH_KEYS, "match."))
        likely = said.get("likely", 0.0)
        if isinstance(likely, bool) or not isinstance(likely, int | float) or not 0 <= likely <= 1:
            raise self.error(said, "likely", "likely is a probability from 0 to 1")
        if "likely" in said and "category" not in said:
            raise self.error(said, "likely", "likely says how likely a category must be, and none is named")
        return Match(
            self.pattern(said),
            tuple(word.lower() for word in self.texts(said, "keywords")),
            self.among(said, "language", LANGUAGES),
            self.count(said, "min_tokens"),
            self.count(said, "max_tokens"),
            self.flag(said, "code"),
            self.flag(said, "schema"),
            self.columns(said),
            self.among(said, "category", CATEGORIES),
            float(likely),
        )

    def pattern(self, said: YamlMap) -> Any:
        if said.get("regex") is None:
            return None
        try:
            return regex.compile(said.texts.get("regex", str(said["regex"])))
        except regex.error as error:
            raise self.error(said, "regex", f"regex: {error}") from None

    def texts(self, said: YamlMap, key: str) -> tuple[str, ...]:
        value = said.get(key)
        if value is None:
            return ()
        found = _texts(value, said.texts.get(key))
        if not found or not all(found):
            raise self.error(said, key, f"match.{key} is a text or a list of texts")
        return found

    def among(self, said: YamlMap, key: str, allowed: Sequence[str]) -> tuple[str, ...]:
        found = self.texts(said, key)
        for name in found:
            if name not in allowed:
                raise self.error(said, key, f"match.{key}: {unknown_key(name, allowed).replace('key ', key + ' ', 1)}")
        return found

    def count(self, said: YamlMap, key: str) -> int | None:
        value = said.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise self.error(said, key, f"match.{key} is a whole number of tokens")
        return value

    def flag(self, said: YamlMap, key: str) -> bool | None:
        value = said.get(key)
        if value is not None and not isinstance(value, bool):
            where = key if said is self.entry else f"match.{key}"
            raise self.error(said, key, f"{where} is true or false")
        return value

    def columns(self, said: YamlMap) -> dict[str, tuple[str, ...]]:
        value = said.get("column")
        if value is None:
            return {}
        if not isinstance(value, YamlMap):
            raise self.error(
                said, "column", "match.column names columns and their values, such as column: {topic: law}"
            )
        return {name: self.texts(value, name) for name in value}


def _texts(value: Any, text: str | None) -> tuple[str, ...]:
    if isinstance(value, YamlList):
        return tuple(value.texts.get(n, "") for n in range(len(value)))
    if value is None or isinstance(value, dict | list):
        return ()
    return (text if text is not None else str(value),)
