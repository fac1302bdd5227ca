//! A model server that follows a script.
