//! What rules, modes and policies make of lines.
