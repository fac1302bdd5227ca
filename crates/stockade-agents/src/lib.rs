//! What each known agent program needs, as data (recipes).
