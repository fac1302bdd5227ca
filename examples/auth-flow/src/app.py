"""The part of a service that answers who somebody is."""

from src.tokens import is_valid


def get_profile(headers, sessions):
    """Answers `GET /profile` with a status and a body."""
    key = headers.get("Authorization", "").removeprefix("Bearer ")
    session = sessions.get(key)
    if session is None or not is_valid(session):
        return 401, {"error": "no valid session"}
    return 200, {"user": session["user"]}
