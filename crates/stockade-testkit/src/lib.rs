//! What the tests share: laboratories, the command runner, the scripted model server.
