import socket
import unittest

from greeter import greet


class Greeter(unittest.TestCase):
    def test_greets_by_name(self):
        self.assertEqual(greet("World"), "Hello, World!")

    def test_serves_on_the_loopback(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            connection, _ = server.accept()
            connection.sendall(greet("Net").encode())
            self.assertEqual(client.recv(99), b"Hello, Net!")
            connection.close()
            client.close()


if __name__ == "__main__":
    unittest.main()
