//! The only place that prints: talk goes to standard error, escaped.

pub(crate) mod choice;
pub(crate) mod feed;
pub(crate) mod live;
pub(crate) mod patch;
pub(crate) mod printed;
pub(crate) mod prompt;
pub(crate) mod question;
pub(crate) mod relay;
pub(crate) mod screen;
pub(crate) mod status;
mod typed;
mod wrap;

use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;

use serde::Serialize;
use stockade_policy::acts_on_terminals;

/// One line of talk on standard error.
pub(crate) fn say(kind: &str, text: &str) {
    let mut error = std::io::stderr().lock();
    // Nobody can be told that standard error is closed.
    writeln!(error, "{kind}: {}", printable(text)).ok();
}

/// How many columns standard output has, when it is a terminal.
pub(crate) fn columns() -> Option<usize> {
    columns_of(&io::stdout())
}

/// How many columns `output` has, when it is a terminal that says so.
fn columns_of(output: &(impl AsFd + IsTerminal)) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(output).ok().filter(|_| output.is_terminal())?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Begins a new line of talk, below what a terminal has drawn of a key.
pub(crate) fn apart() {
    writeln!(io::stderr().lock()).ok();
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// One line of data on standard output. A reader who has seen enough is no failure.
///
/// # Errors
///
/// When it cannot be written, for another reason than that.
pub(crate) fn line(text: &str) -> io::Result<()> {
    enough(writeln!(io::stdout().lock(), "{}", printable(text)))
}

/// One JSON value on a line of standard output.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    json_line(&serde_json::to_string(value)?)
}

/// One line of JSON that is text already.
pub(crate) fn json_line(text: &str) -> io::Result<()> {
    let text = stockade_threads::json_for_terminals(text.to_owned());
    enough(writeln!(io::stdout().lock(), "{text}"))
}

/// Bytes on standard output: as they are for a file or a pipe, escaped on a terminal.
pub(crate) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    if output.is_terminal() {
        output.write_all(for_terminal(bytes).as_bytes())
    } else {
        output.write_all(bytes)
    }
}

/// Text of our own on standard output, as it is, at once: its last line may have no end yet.
pub(crate) fn whole(text: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    enough(output.write_all(text).and_then(|()| output.flush()))
}

/// Whether it failed because nobody reads any more.
fn enough(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Text of a file as a terminal may show it. A part may end in the middle of a character,
/// which is then shown as its bytes.
fn for_terminal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for (at, line) in chunk.valid().split('\t').enumerate() {
            text.push_str(if at == 0 { "" } else { "\t" });
            text.push_str(&printable(line));
        }
        for byte in chunk.invalid() {
            text.extend(std::ascii::escape_default(*byte).map(char::from));
        }
    }
    text
}

/// A blank line and a hint below a failure.
pub(crate) fn hint(text: &str) {
    let mut error = std::io::stderr().lock();
    writeln!(error, "\nhint: {}", printable(text)).ok();
}

/// The cause of a failure, indented below it.
pub(crate) fn cause(text: &str) {
    let mut error = std::io::stderr().lock();
    writeln!(error, "  because: {}", printable(text)).ok();
}

/// `text` with control characters and bidirectional overrides escaped, so that a path cannot
/// draw on the user's terminal. Line breaks of our own diagnostics stay.
pub(crate) fn printable(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '\n' && acts_on_terminals(character) {
            result.extend(character.escape_unicode());
        } else {
            result.push(character);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_on_a_terminal_keep_lines_and_tabs_and_nothing_else() {
        assert_eq!(for_terminal(b"+\ta\x1b[2J\r\n\xff"), "+\ta\\u{1b}[2J\\u{d}\n\\xff");
    }

    #[test]
    fn what_could_draw_on_a_terminal_is_escaped() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\nd"), "a\\u{1b}[2Jb\\u{202e}c\nd");
    }
}
