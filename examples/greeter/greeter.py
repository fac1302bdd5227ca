"""A small project to run inside the boundary."""


def greet(name):
    return f"Hello, {name}!"
