//! Lines on which a naive reader is wrong.
