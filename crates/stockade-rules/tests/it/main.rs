//! What scripts start, beside a real shell; what rules say of them; and laws of both.

mod laws;
mod shell_vs_bash;
mod tricky;
mod verdicts;
