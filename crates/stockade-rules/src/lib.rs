//! Which commands a text would start, and what the user's rules say of them.
//!
//! A [`Script`] is what can be known of a shell line or an argument vector before it runs; a
//! [`RuleSet`] says of each command in it whether it is allowed, asked about or denied; and
//! [`judge`] puts mode and approval policy on top. Nothing here starts, reads or waits for
//! anything: text in, verdict out. No promise of the boundary rests on this crate. Being wrong
//! towards "opaque" costs a question; being wrong towards "known" runs something unreviewed, so
//! every doubt is opaque.
//!
//! Invariants:
//! - no I/O, no clock, no `unsafe`, no recursion over the text;
//! - the most severe verdict wins, whatever the order of rules and commands;
//! - an opaque part is never matched by a rule that allows.

mod builtin;
mod evaluate;
mod exec;
mod generalise;
mod import;
mod judge;
mod rule;
mod shell;

pub use evaluate::{Judgement, Part, PartKind, RuleSet};
pub use exec::Exec;
pub use generalise::{best_general, generalised};
pub use import::{ImportError, Imported, ImportedRule, NetworkRule, Relative, import};
pub use judge::{Ruling, judge};
pub use rule::{Rule, RuleError, RuleRef, split_words};
pub use shell::{Assignment, Command, Script, Standing, Step, Word};
