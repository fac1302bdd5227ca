//! Laws of reading and of verdicts.
