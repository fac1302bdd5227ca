"""Sessions for tests."""

from datetime import datetime, timedelta


def session(user, hours=1):
    """A session that expires in so many hours."""
    expires = datetime.now() + timedelta(hours=hours)
    return {"user": user, "expires": expires.isoformat()}
