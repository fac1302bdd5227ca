"""How long a session holds. All times are UTC."""

from datetime import datetime, timezone


def is_valid(session):
    expires = datetime.fromisoformat(session["expires"]).replace(tzinfo=timezone.utc)
    return datetime.now(timezone.utc) < expires
