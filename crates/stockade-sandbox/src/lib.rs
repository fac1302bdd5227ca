//! The operating system's wall around one command.
