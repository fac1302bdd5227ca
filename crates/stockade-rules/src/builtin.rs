//! What is known of commands without any rule.
use crate::shell::Command;
pub(crate) fn is_plain(_: &Command) -> bool {
    false
}
pub(crate) fn reads_only(_: &Command) -> bool {
    false
}
pub(crate) fn after_global_options(_: &str, _: &[crate::shell::Word]) -> usize {
    1
}
