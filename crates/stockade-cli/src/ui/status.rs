//! One line that says that something is being waited for, since when, and what it has cost.
//!
//! Only on a terminal that can take a line back. It is gone before anything else is written.

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::columns_of;

/// How often it is drawn anew.
const TURN: Duration = Duration::from_secs(1);

/// To the start of the line, and that line gone (ECMA-48: EL).
const GONE: &str = "\r\u{1b}[K";

/// Takes back a line of `shown` columns on a terminal that has `columns` now. One that became narrower
/// meanwhile has broken the line, and the cursor stands in the last of its rows (CUU). Row by row: tmux keeps
/// what is cleared down to the end of the screen (ED) in its history.
fn gone(shown: usize, columns: usize) -> String {
    let above = shown.saturating_sub(1) / columns.max(1);
    GONE.to_owned() + &"\u{1b}[A\u{1b}[K".repeat(above)
}

/// The line.
#[derive(Debug)]
pub(crate) struct Status {
    shared: Arc<(Mutex<Line>, Condvar)>,
    is_on: bool,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each thing that is so or not")]
struct Line {
    since: Instant,
    turn: Option<(u32, u32)>,
    max_tokens: Option<u64>,
    max_time: Option<Duration>,
    read: u64,
    written: u64,
    /// Whether anything is being waited for, and nothing else is on its line.
    may_show: bool,
    /// How many questions of another kind are open.
    held: u8,
    /// How many columns of the line are there now.
    shown: usize,
    /// Whether the terminal cuts what is too long when it becomes narrower, instead of breaking it.
    cuts: bool,
    /// Whether an answer came without a word on what it took.
    is_uncounted: bool,
    /// Whether something stands on the last line, and has not ended it.
    is_open: bool,
    is_over: bool,
}

impl Status {
    /// A line that is drawn when `is_on`.
    pub(crate) fn new(is_on: bool) -> Self {
        let line = Line {
            since: Instant::now(),
            turn: None,
            max_tokens: None,
            max_time: None,
            read: 0,
            written: 0,
            may_show: false,
            held: 0,
            shown: 0,
            cuts: false,
            is_uncounted: false,
            is_open: false,
            is_over: false,
        };
        let shared = Arc::new((Mutex::new(line), Condvar::new()));
        if is_on {
            let shared = Arc::clone(&shared);
            // Without a thread for it there is no such line.
            thread::Builder::new().name("status".to_owned()).spawn(move || draw(&shared)).ok();
        }
        Self { shared, is_on }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a turn may use up.
    pub(crate) fn within(&self, tokens: Option<u64>, time: Option<Duration>) {
        let mut line = self.line();
        (line.max_tokens, line.max_time) = (tokens, time);
    }

    /// The terminal cuts lines that have no room any more, as xterm, screen and the console do.
    pub(crate) fn cuts(&self) {
        self.line().cuts = true;
    }

    /// A turn of the user's begins: time and tokens count from here.
    pub(crate) fn begin(&self) {
        let mut line = self.line();
        line.since = Instant::now();
        (line.turn, line.read, line.written) = (None, 0, 0);
    }

    /// The model is asked for the `turn`th time of at most `max`.
    pub(crate) fn asking(&self, turn: u32, max: u32) {
        self.line().turn = Some((turn, max));
    }

    /// What an answer cost.
    pub(crate) fn used(&self, read: u64, written: u64) {
        let mut line = self.line();
        line.read = line.read.saturating_add(read);
        line.written = line.written.saturating_add(written);
        line.is_uncounted |= (read, written) == (0, 0);
    }

    /// Takes the line back, because something else is going to be written.
    pub(crate) fn hide(&self) {
        let mut line = self.line();
        line.may_show = false;
        line.take_back();
    }

    /// Whether what was written last has not ended its line.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.line().is_open = is_open;
    }

    /// Ends the line on which something was broken off.
    pub(crate) fn end_line(&self) {
        if std::mem::take(&mut self.line().is_open) {
            crate::ui::apart();
        }
    }

    /// Whether there is such a line at all.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// The line may be there again, after a while in which nothing else was written.
    pub(crate) fn allow(&self) {
        if self.is_on {
            self.line().may_show = true;
            self.shared.1.notify_all();
        }
    }

    /// No line as long as the user is asked something else.
    pub(crate) fn hold(&self, is_held: bool) {
        let mut line = self.line();
        line.held = if is_held { line.held.saturating_add(1) } else { line.held.saturating_sub(1) };
        line.take_back();
    }

    /// Time and tokens since the turn began.
    pub(crate) fn sum(&self) -> String {
        let line = self.line();
        let time = words(line.since.elapsed());
        if line.is_uncounted && line.tokens() == 0 {
            return format!("{time}; the model server does not say how many tokens it took");
        }
        format!("{time}, {} tokens read, {} written", grouped(line.read), grouped(line.written))
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        let mut line = self.line();
        line.take_back();
        line.is_over = true;
        drop(line);
        self.shared.1.notify_all();
    }
}

impl Line {
    fn take_back(&mut self) {
        let shown = std::mem::take(&mut self.shown);
        if shown > 0 {
            let mut error = std::io::stderr().lock();
            let columns = if self.cuts { usize::MAX } else { columns() };
            // Who closed it does not see the line either.
            drop((error.write_all(gone(shown, columns).as_bytes()), error.flush()));
        }
    }

    fn tokens(&self) -> u64 {
        self.read.saturating_add(self.written)
    }

    fn text(&self) -> String {
        let turn =
            self.turn.map_or_else(String::new, |(turn, max)| format!(" · turn {turn}/{max}"));
        let of = |most: Option<String>| most.map_or_else(String::new, |most| format!("/{most}"));
        let tokens = match self.tokens() {
            0 if self.is_uncounted => "?".to_owned(),
            tokens => grouped(tokens),
        };
        let (time, most) = (words(self.since.elapsed()), of(self.max_time.map(words)));
        format!("· {time}{most}{turn} · {tokens}{} tokens", of(self.max_tokens.map(grouped)))
    }

    /// As much of the text as has room on one line: of two only the last would be taken back.
    fn fitting(&self, columns: usize) -> String {
        self.text().chars().take(columns.saturating_sub(1)).collect()
    }
}

/// How many columns the terminal has; one that does not tell has enough.
fn columns() -> usize {
    columns_of(&std::io::stderr()).unwrap_or(usize::MAX)
}

fn draw((line, wake): &(Mutex<Line>, Condvar)) {
    let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
    while !line.is_over {
        if line.may_show {
            let waited = wake.wait_timeout(line, TURN).unwrap_or_else(PoisonError::into_inner);
            line = waited.0;
            if waited.1.timed_out() && line.may_show && line.held == 0 && !line.is_over {
                line.take_back();
                let mut error = std::io::stderr().lock();
                let text = line.fitting(columns());
                drop((write!(error, "{GONE}{text}"), error.flush()));
                line.shown = text.chars().count();
            }
        } else {
            line = wake.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// `75 s`, `3 min 20 s`.
fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 100 {
        return format!("{seconds} s");
    }
    format!("{} min {} s", seconds / 60, seconds % 60)
}

/// `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_used_and_of_how_much() {
        let status = Status::new(false);
        status.asking(2, 50);
        status.used(1_000, 234);
        assert!(status.line().text().ends_with(" s · turn 2/50 · 1,234 tokens"));
        status.within(Some(200_000), Some(Duration::from_mins(10)));
        let text = status.line().text();
        assert!(text.ends_with(" s/10 min 0 s · turn 2/50 · 1,234/200,000 tokens"), "{text}");
        assert_eq!(status.line().fitting(20).chars().count(), 19);
    }

    #[test]
    fn who_does_not_count_is_not_said_to_have_taken_nothing() {
        let status = Status::new(false);
        assert!(status.line().text().ends_with(" 0 tokens"), "nothing was answered yet");
        status.used(0, 0);
        assert!(status.line().text().ends_with(" ? tokens"));
        assert!(status.sum().ends_with("does not say how many tokens it took"));
        status.used(5, 2);
        assert!(status.sum().ends_with("5 tokens read, 2 written"));
    }

    #[test]
    fn a_line_that_the_terminal_has_broken_is_taken_back_whole() {
        assert_eq!([gone(30, 80), gone(30, 30), gone(30, usize::MAX)], [GONE; 3]);
        let up = "\u{1b}[A\u{1b}[K";
        assert_eq!(gone(30, 20), format!("{GONE}{up}"));
        assert_eq!(gone(41, 20), format!("{GONE}{up}{up}"));
    }

    #[test]
    fn numbers_and_times_are_for_people() {
        let numbers = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        let times = [0, 99, 100, 3_600].map(|seconds| words(Duration::from_secs(seconds)));
        assert_eq!(times, ["0 s", "99 s", "1 min 40 s", "60 min 0 s"]);
    }
}
