//! Files and environment in, one [`stockade_policy::Policy`] out, with the source of each value.
