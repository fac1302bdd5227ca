//! Single walls, alone.
