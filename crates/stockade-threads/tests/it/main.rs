//! Claims that hold across modules.
