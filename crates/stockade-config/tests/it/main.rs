//! Configuration as a user meets it: real files, a real disk, the whole of `load`.

mod codex;
mod diagnostics;
mod hiding;
mod lab;
mod laws;
mod layers;
mod logins;
mod model;
mod requests;
mod requirements;
mod roots;
mod rules;
mod surroundings;
mod trusting;
mod values;
