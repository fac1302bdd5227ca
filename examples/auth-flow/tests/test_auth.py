import unittest

from src.app import get_profile
from tests.fixtures import session


class Auth(unittest.TestCase):
    def test_auth_flow(self):
        sessions = {"k1": session("ada")}
        status, body = get_profile({"Authorization": "Bearer k1"}, sessions)
        self.assertEqual((status, body), (200, {"user": "ada"}))

    def test_an_expired_session_is_refused(self):
        sessions = {"k1": session("ada", hours=-24)}
        status, _ = get_profile({"Authorization": "Bearer k1"}, sessions)
        self.assertEqual(status, 401)

    def test_a_stranger_is_refused(self):
        self.assertEqual(get_profile({}, {})[0], 401)
