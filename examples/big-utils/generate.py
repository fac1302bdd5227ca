"""Writes a project as they grow: one `utils.py` of 2,000 lines that everything imports.

    python3 generate.py FOLDER

Four concerns share the file (auth, database, validation, formatting), 47 files of `app` import
from it, and 72 tests hold it in place.
"""

import sys
from pathlib import Path

THINGS = {
    "account": {"name": "text", "email": "email", "balance": "money"},
    "address": {"street": "text", "city": "text", "since": "date"},
    "booking": {"room": "text", "start": "date", "guests": "count"},
    "campaign": {"title": "text", "budget": "money", "start": "date"},
    "contract": {"number": "text", "signed": "date", "value": "money"},
    "customer": {"name": "text", "email": "email", "orders": "count"},
    "delivery": {"carrier": "text", "due": "date", "parcels": "count"},
    "discount": {"code": "text", "amount": "money", "until": "date"},
    "employee": {"name": "text", "email": "email", "hired": "date"},
    "expense": {"purpose": "text", "amount": "money", "spent": "date"},
    "invoice": {"number": "text", "total": "money", "due": "date"},
    "lease": {"object": "text", "rent": "money", "until": "date"},
    "meeting": {"topic": "text", "day": "date", "seats": "count"},
    "order": {"number": "text", "total": "money", "lines": "count"},
    "payment": {"reference": "text", "amount": "money", "paid": "date"},
    "product": {"name": "text", "price": "money", "stock": "count"},
    "refund": {"reason": "text", "amount": "money", "paid": "date"},
    "supplier": {"name": "text", "email": "email", "since": "date"},
}
SAMPLES = {"text": "'one'", "email": "'a@example.org'", "money": "1250", "date": "'2026-03-01'",
           "count": "3"}
SHOWN = {"text": "one", "email": "a@example.org", "money": "12.50", "date": "1 March 2026",
         "count": "3"}
IMPORTERS = 11  # things that are also imported from files; 18 + 18 + 11 = 47

HEAD = '''"""Everything that did not fit elsewhere."""

import datetime
import itertools
import re


# --- auth ---


class Denied(Exception):
    """The one who acts may not do this."""


_actor = "nobody"


def act_as(name):
    """From now on `name` acts."""
    global _actor
    _actor = name


def current_actor():
    """Who acts."""
    return _actor


def grant(name, role):
    """Gives `name` a role."""
    insert("role", {"name": name, "role": role})


def has_role(name, role):
    """Whether `name` has a role, or all of them."""
    return any(row["role"] in (role, "all") for row in select("role", name=name))


# --- database ---


class Missing(Exception):
    """There is no such row."""


_tables = {}
_keys = itertools.count(1)


def reset():
    """Empties all tables."""
    _tables.clear()


def insert(table, record):
    """Keeps a copy of `record`, and gives its key."""
    key = next(_keys)
    _tables.setdefault(table, {})[key] = dict(record, created_by=current_actor())
    return key


def fetch(table, key):
    """The row with this key."""
    try:
        return _tables[table][key]
    except KeyError:
        raise Missing(f"{table} {key}") from None


def remove(table, key):
    """Removes the row with this key."""
    fetch(table, key)
    del _tables[table][key]


def select(table, **criteria):
    """Rows whose columns have these values."""
    rows = _tables.get(table, {}).values()
    return [row for row in rows if all(row.get(name) == criteria[name] for name in criteria)]


# --- validation ---


class Invalid(Exception):
    """A record is not what it should be."""


def require_text(record, name):
    """A text with something in it."""
    if not isinstance(record.get(name), str) or not record[name].strip():
        raise Invalid(f"{name} is empty")


def require_email(record, name):
    """Somebody at some host."""
    if not re.fullmatch(r"[^@\\s]+@[^@\\s]+", str(record.get(name))):
        raise Invalid(f"{name} is no address")


def require_money(record, name):
    """Cents."""
    if not isinstance(record.get(name), int) or record[name] < 0:
        raise Invalid(f"{name} is no amount")


def require_count(record, name):
    """A number of things."""
    if not isinstance(record.get(name), int) or record[name] < 0:
        raise Invalid(f"{name} is no count")


def require_date(record, name):
    """A day, as ISO 8601 writes it."""
    try:
        datetime.date.fromisoformat(record.get(name))
    except (TypeError, ValueError):
        raise Invalid(f"{name} is no day") from None


# --- formatting ---


def text(value):
    """As it is."""
    return value


def email(value):
    """In small letters."""
    return value.lower()


def money(value):
    """With two digits behind the point."""
    return f"{value // 100}.{value % 100:02}"


def count(value):
    """In digits."""
    return str(value)


def date(value):
    """As people write it."""
    day = datetime.date.fromisoformat(value)
    return f"{day.day} {day:%B} {day.year}"
'''

AUTH = '''

# --- auth ---


def can_read_{thing}(name):
    """Whether `name` may look at one {thing}."""
    return has_role(name, "{thing}-reader") or can_edit_{thing}(name)


def can_edit_{thing}(name):
    """Whether `name` may change one {thing}."""
    return has_role(name, "{thing}-editor")


def require_{thing}_editor():
    """Refuses everybody else."""
    if not can_edit_{thing}(current_actor()):
        raise Denied(f"{{current_actor()}} may not edit one {thing}")
'''

DATABASE = '''

# --- database ---


def insert_{thing}(record):
    """Keeps one {thing}, and gives its key."""
    require_{thing}_editor()
    return insert("{thing}", validate_{thing}(record))


def find_{thing}(key):
    """The {thing} with this key."""
    return fetch("{thing}", key)


def update_{thing}(key, **changes):
    """Changes some of one {thing}."""
    require_{thing}_editor()
    row = find_{thing}(key)
    record = {{name: row[name] for name in ({names})}}
    record.update(changes)
    row.update(validate_{thing}(record))
    return row


def delete_{thing}(key):
    """Forgets one {thing}."""
    require_{thing}_editor()
    remove("{thing}", key)


def list_{thing}s(**criteria):
    """Each {thing} whose columns have these values."""
    return select("{thing}", **criteria)


def count_{thing}s(**criteria):
    """How many there are of these."""
    return len(list_{thing}s(**criteria))
'''

VALIDATION = '''

# --- validation ---


def validate_{thing}(record):
    """Gives `record` back when it is one {thing}."""
{requirements}
    others = set(record) - {{{names}}}
    if others:
        raise Invalid(f"no part of one {thing}: {{sorted(others)}}")
    return record


def is_{thing}(record):
    """Whether `record` is one {thing}."""
    try:
        validate_{thing}(record)
    except Invalid:
        return False
    return True
'''

FORMATTING = '''

# --- formatting ---


def format_{thing}(record):
    """A {thing} in one line."""
    parts = [
{parts}
    ]
    return ", ".join(parts)


def {thing}_table(records):
    """Each {thing} on a line of its own, below a head."""
    lines = ["{head}"]
    for record in records:
        lines.append(format_{thing}(record))
    return "\\n".join(lines)
'''

API = '''"""Requests about one {thing}."""

from utils import delete_{thing}, find_{thing}, insert_{thing}, update_{thing}


def post(record):
    return insert_{thing}(record)


def get(key):
    return find_{thing}(key)


def patch(key, **changes):
    return update_{thing}(key, **changes)


def delete(key):
    delete_{thing}(key)
'''

REPORT = '''"""What there is of each {thing}."""

from utils import can_read_{thing}, current_actor, list_{thing}s, {thing}_table


def report():
    if not can_read_{thing}(current_actor()):
        return "nothing for you"
    return {thing}_table(list_{thing}s())
'''

IMPORT = '''"""Takes each {thing} from a list, and leaves out what is none."""

from utils import insert_{thing}, is_{thing}


def take(records):
    return [insert_{thing}(record) for record in records if is_{thing}(record)]
'''

TEST = '''import unittest

import utils_for_tests
from app import {thing}_api, {thing}_report

RECORD = {record}


class {name}Test(unittest.TestCase):
    def setUp(self):
        utils_for_tests.start("{thing}-editor")

    def test_one_{thing}_is_kept_and_found(self):
        key = {thing}_api.post(RECORD)
        self.assertEqual({thing}_api.get(key)["created_by"], "ada")

    def test_what_is_no_{thing}_is_refused(self):
        with self.assertRaises(utils_for_tests.INVALID):
            {thing}_api.post(dict(RECORD, other=1))

    def test_one_{thing}_is_changed_and_deleted(self):
        key = {thing}_api.post(RECORD)
        {thing}_api.patch(key, **RECORD)
        {thing}_api.delete(key)
        with self.assertRaises(utils_for_tests.MISSING):
            {thing}_api.get(key)

    def test_one_{thing}_is_reported(self):
        {thing}_api.post(RECORD)
        self.assertEqual({thing}_report.report(), "{head}\\n{line}")
'''

FOR_TESTS = '''"""Finds the names that tests need in `utils`, whatever becomes of its inside."""

import importlib
import pkgutil

import utils


def _find(name):
    modules = [utils]
    for found in pkgutil.iter_modules(getattr(utils, "__path__", [])):
        modules.append(importlib.import_module(f"utils.{found.name}"))
    return next(getattr(module, name) for module in modules if hasattr(module, name))


INVALID = _find("Invalid")
MISSING = _find("Missing")


def start(role):
    _find("reset")()
    _find("act_as")("ada")
    _find("grant")("ada", role)
'''


def words(thing, fields):
    return {
        "thing": thing,
        "name": thing.capitalize(),
        "names": ", ".join(f'"{name}"' for name in fields),
        "requirements": "\n".join(
            f'    require_{kind}(record, "{name}")' for name, kind in fields.items()
        ),
        "parts": "\n".join(
            f'        {kind}(record["{name}"]),' for name, kind in fields.items()
        ),
        "head": ", ".join(fields),
        "line": ", ".join(SHOWN[kind] for kind in fields.values()),
        "record": "{" + ", ".join(f"'{n}': {SAMPLES[k]}" for n, k in fields.items()) + "}",
    }


def main(folder):
    files = {"utils.py": HEAD, "app/__init__.py": "", "tests/__init__.py": "",
             "utils_for_tests.py": FOR_TESTS, ".gitignore": "__pycache__/\n"}
    for number, (thing, fields) in enumerate(THINGS.items()):
        with_words = words(thing, fields)
        for part in (AUTH, DATABASE, VALIDATION, FORMATTING):
            files["utils.py"] += part.format(**with_words)
        files[f"app/{thing}_api.py"] = API.format(**with_words)
        files[f"app/{thing}_report.py"] = REPORT.format(**with_words)
        if number < IMPORTERS:
            files[f"app/{thing}_import.py"] = IMPORT.format(**with_words)
        files[f"tests/test_{thing}.py"] = TEST.format(**with_words)
    for name, content in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


main(sys.argv[1])
