//! Arithmetic: which of it evaluates numbers alone.
//!
//! A shell evaluates what a variable holds as an expression again, and a subscript in there runs
//! commands: `a='b[$(date)]'; echo $((a))`. Arithmetic is therefore understood where each of its names
//! is known to hold a number:
//! - it was set to one before, in this text, in a place that is passed whenever the arithmetic is
//!   reached (what the environment holds is not known), and
//! - no assignment to it, wherever in the text, may give it anything else.
//!
//! Subscripts, quotes and substitutions are not understood at all.

use std::collections::{BTreeMap, BTreeSet};

use super::lex::{Cursor, is_name};
use super::parse::{After, Doubt, Frame, List, ListKind, Parser, Read, State};
use super::script::Word;
use super::simple::Draft;
use super::variables::is_own;

/// What is known of the numbers in one text.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Nothing may be taken for a number.
    are_unknown: bool,
    /// Names on whose being numbers the reading rests.
    used: BTreeSet<String>,
    /// Names that may hold anything.
    others: BTreeSet<String>,
    /// Any name may hold anything.
    pub(super) are_others: bool,
    /// The reading rests on `seq` being the program.
    uses_seq: bool,
}

/// What one list of commands knows.
#[derive(Debug)]
pub(super) struct Scope {
    /// Names that hold a number wherever the list goes on, and whether they do on its next line as
    /// well: a line that fails is given up, and the next one is run.
    pub(super) numbers: BTreeMap<String, bool>,
    /// Those that the command being read sets.
    pub(super) setting: Vec<(String, bool)>,
    /// Nothing on this line can have failed.
    is_fresh: bool,
    /// The command being read is in the background or in a pipeline.
    pub(super) is_apart: bool,
}

impl Scope {
    pub(super) fn new() -> Self {
        let (numbers, setting) = (BTreeMap::new(), Vec::new());
        Self { numbers, setting, is_fresh: true, is_apart: false }
    }
}

/// An expression of numbers, names and operators.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expression {
    names: Vec<String>,
    /// Names that it sets to a number before it does anything else.
    sets: Vec<String>,
}

impl Numbers {
    /// `are_unknown`: nothing is taken for a number.
    pub(super) fn new(are_unknown: bool) -> Self {
        Self { are_unknown, ..Self::default() }
    }

    /// Whether what was read rests on a number that may be none.
    pub(super) fn are_doubtful(&self, read: &Read) -> bool {
        let rests = !self.used.is_empty() || self.uses_seq;
        rests
            && (self.are_others
                || read.is_broken
                || self.uses_seq && read.is_redefined
                || self.used.intersection(&self.others).next().is_some())
    }

    /// `name` may hold anything from here on, or from before.
    pub(super) fn doubt(&mut self, name: &str) {
        // What splits words may split numbers.
        self.are_others |= name == "IFS";
        self.others.insert(name.to_owned());
    }
}

impl Parser<'_> {
    /// Whether `$name` is one word without blanks, and a number.
    pub(super) fn is_number(&mut self, name: &str) -> bool {
        let is_number = self.is_set_to_number(name);
        if is_number {
            self.numbers.used.insert(name.to_owned());
        }
        is_number
    }

    fn is_set_to_number(&self, name: &str) -> bool {
        !self.numbers.are_unknown
            && is_own(name)
            && self.stack.iter().any(
                |frame| matches!(frame, Frame::List(list) if list.scope.numbers.contains_key(name)),
            )
    }

    /// Whether `text` evaluates numbers alone; the names that it sets first.
    pub(super) fn understands(&mut self, text: &str) -> Option<Vec<String>> {
        let Expression { names, sets } = expression(text)?;
        if self.numbers.are_unknown && !names.is_empty() {
            return None;
        }
        let is_number =
            |name: &String| self.is_set_to_number(name) || is_own(name) && sets.contains(name);
        if !names.iter().all(is_number) {
            return None;
        }
        self.numbers.used.extend(names);
        Some(sets)
    }

    /// Takes `((…))` when it evaluates numbers alone.
    pub(super) fn takes_arithmetic(&mut self) -> Option<Vec<String>> {
        let mut ahead = self.cursor.clone();
        let text = in_parentheses(&mut ahead, false)?;
        let sets = self.understands(&text)?;
        self.cursor = ahead;
        Some(sets)
    }

    /// Takes the `((…;…;…))` of a `for` when it evaluates numbers alone.
    pub(super) fn takes_counting(&mut self) -> Option<Vec<String>> {
        let mut ahead = self.cursor.clone();
        let text = in_parentheses(&mut ahead, true)?;
        let parts: Vec<&str> = text.split(';').collect();
        let [first, test, step] = parts.as_slice() else { return None };
        let sets = self.understands(first)?;
        for part in [test, step] {
            let Expression { names, .. } = expression(part)?;
            if !names.iter().all(|name| sets.contains(name) || self.is_set_to_number(name)) {
                return None;
            }
            self.numbers.used.extend(names);
        }
        self.cursor = ahead;
        Some(sets)
    }

    /// Whether `written`, a word or the value of an assignment, can only come to be a number.
    pub(super) fn is_numeric(&mut self, written: &str) -> bool {
        let quoted = |quote| written.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
        let text = quoted('"').or_else(|| quoted('\'')).unwrap_or(written);
        if is_literal(text) {
            return true;
        }
        if written.starts_with('\'') || !text.starts_with('$') {
            return false;
        }
        let inner = text.strip_prefix("$((").and_then(|text| text.strip_suffix("))"));
        if let Some(inner) = inner {
            return is_balanced(inner) && self.understands(inner).is_some();
        }
        let is_operand = text.chars().all(|it| it.is_ascii_alphanumeric() || "$_{}#?".contains(it));
        is_operand && self.understands(text).is_some()
    }

    /// The same for a word of `for … in`, which may become several numbers.
    pub(super) fn are_numeric(&mut self, written: &str) -> bool {
        let digits = |text: &str| {
            let text = text.strip_prefix('-').unwrap_or(text);
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let range = written.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        if range.is_some_and(|text| text.contains("..") && text.split("..").all(digits)) {
            return true;
        }
        let seq = written.strip_prefix("$(seq ").and_then(|text| text.strip_suffix(')'));
        if seq.is_some_and(|text| text.bytes().all(|it| it.is_ascii_digit() || b" -".contains(&it)))
        {
            self.numbers.uses_seq |= !self.numbers.are_unknown;
            return !self.numbers.are_unknown;
        }
        self.is_numeric(written)
    }

    /// A variable is set to what `written` comes to; `true` when that is a number.
    pub(super) fn sets(&mut self, name: &str, written: &str) -> bool {
        let is_number = self.is_numeric(written);
        if !is_number {
            self.numbers.doubt(name);
        }
        is_number
    }

    /// `let` with expressions alone does what `((…))` does; the names that it sets first.
    pub(super) fn takes_let(&mut self, words: &[Word]) -> Option<Vec<String>> {
        let (first, rest) = words.split_first()?;
        if first.known() != Some("let") || rest.is_empty() || self.only_bash().is_err() {
            return None;
        }
        let mut sets = None;
        for word in rest {
            // Those behind one that fails are not looked at.
            let of_word = self.understands(word.known()?)?;
            sets.get_or_insert(of_word);
        }
        sets
    }

    /// What `command`, a builtin perhaps, may put into variables.
    pub(super) fn doubt_what_is_set_by(&mut self, draft: &Draft) {
        let Some(name) = draft.words.first().and_then(Word::known) else { return };
        let words = draft.words.get(1..).unwrap_or_default();
        match name {
            // They set them by another text, or keep them from being set.
            "eval" | "trap" | "." | "source" | "builtin" | "command" | "readonly" => {
                let option = words.first().and_then(Word::known);
                let asks = name == "command" && matches!(option, Some("-v" | "-V"));
                self.numbers.are_others |= !asks;
            }
            "declare" | "typeset" | "local" | "export" | "read" | "mapfile" | "readarray"
            | "printf" | "getopts" | "unset" | "wait" => {
                self.numbers.are_others |=
                    words.iter().any(|word| word.known() == Some("-r") && name != "read");
                for name in words.iter().flat_map(|word| named(word.start())) {
                    self.numbers.doubt(name);
                }
            }
            _ => {}
        }
    }

    /// The command that ends here has set `names` to numbers; `is_passed`: it runs whenever what
    /// follows in its list does; `is_sure`: it cannot have failed.
    pub(super) fn has_set(&mut self, names: Vec<String>, is_passed: bool, is_sure: bool) {
        let Some(Frame::List(list)) = self.stack.last_mut() else { return };
        let stays = is_sure && list.scope.is_fresh;
        list.scope.is_fresh = stays;
        if is_passed {
            list.scope.setting.extend(names.into_iter().map(|name| (name, stays)));
        }
    }

    /// Takes `((…))` as a command when it evaluates numbers alone.
    pub(super) fn takes_command_of_numbers(&mut self) -> Result<bool, Doubt> {
        let list = self.list()?;
        let State::Start(after) = list.state else { return Ok(false) };
        if list.names_function || list.has_here_document || self.only_bash().is_err() {
            return Ok(false);
        }
        let Some(names) = self.takes_arithmetic() else { return Ok(false) };
        self.list()?.state = State::Compound;
        self.has_set(names, after != After::Operator, false);
        Ok(true)
    }
}

impl List {
    /// A command is over.
    pub(super) fn ends_command(&mut self) {
        let Scope { numbers, setting, is_fresh, is_apart } = &mut self.scope;
        *is_fresh &= !setting.is_empty();
        let is_apart = std::mem::take(is_apart);
        for (name, stays) in setting.drain(..).filter(|_| !is_apart) {
            *numbers.entry(name).or_default() |= stays;
        }
    }

    /// A line is over: where lines are read one by one, a failure ended that one alone.
    pub(super) fn ends_line(&mut self) {
        let reads_lines = matches!(self.kind, ListKind::Top | ListKind::Substitution);
        if reads_lines && !matches!(self.state, State::Start(After::Operator)) {
            self.scope.numbers.retain(|_, stays| *stays);
            self.scope.is_fresh = true;
        }
    }
}

/// The names that a word of `read`, `export` and their like may set: `i=1`, `i+=1`, and `-ai`, which
/// names `i` behind an option.
fn named(word: &str) -> impl Iterator<Item = &str> {
    let start = word.split('=').next().unwrap_or_default();
    let start = start.strip_suffix('+').unwrap_or(start).trim_start_matches('-');
    (0..start.len().min(3)).filter_map(|at| start.get(at..)).filter(|name| is_name(name))
}

/// A number as it may stand alone.
fn is_literal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_balanced(text: &str) -> bool {
    let mut depth = 0_usize;
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' if depth == 0 => return false,
            ')' => depth -= 1,
            _ => {}
        }
    }
    depth == 0
}

/// Takes `((…))`, and gives what is inside; `None` when it may be something else.
fn in_parentheses(cursor: &mut Cursor<'_>, is_for: bool) -> Option<String> {
    if !(cursor.takes('(') && cursor.takes('(')) {
        return None;
    }
    let mut text = String::new();
    let mut depth = 0_usize;
    loop {
        let character = cursor.take()?;
        match character {
            '(' => depth += 1,
            ')' if depth == 0 => return cursor.takes(')').then_some(text),
            ')' => depth -= 1,
            ';' if is_for && depth == 0 => {}
            _ if is_part(character) => {}
            _ => return None,
        }
        text.push(character);
    }
}

fn is_operator(character: char) -> bool {
    " \t+-*/%<>=!&|^~?:,()".contains(character)
}

fn is_part(character: char) -> bool {
    character.is_ascii_alphanumeric() || is_operator(character) || "_${}#@[]".contains(character)
}

/// Reads an expression of numbers, names, `$name`, lengths and operators. Whether it is a right one is
/// the shell's business: a wrong one runs nothing.
fn expression(text: &str) -> Option<Expression> {
    let mut cursor = Cursor::new(text);
    let mut names = Vec::new();
    let mut is_behind_operand = false;
    while let Some(next) = cursor.peek() {
        if is_operator(next) {
            cursor.take();
            is_behind_operand = false;
            continue;
        }
        // What is expanded would be one with its neighbour: `a$b` is another name.
        if is_behind_operand {
            return None;
        }
        is_behind_operand = true;
        if next == '$' {
            cursor.take();
            expanded(&mut cursor, &mut names)?;
        } else if next.is_ascii_digit() {
            number(&mut cursor)?;
        } else {
            names.push(cursor.take_name()?);
        }
    }
    Some(Expression { names, sets: set_first(text) })
}

/// Takes what stands behind a `$`; a name that may hold anything goes to `names`.
fn expanded(cursor: &mut Cursor<'_>, names: &mut Vec<String>) -> Option<()> {
    if !cursor.takes('{') {
        let is_special = ['#', '?', '$', '!'].into_iter().any(|special| cursor.takes(special));
        if !is_special {
            names.push(cursor.take_name()?);
        }
        return Some(());
    }
    let is_length = cursor.takes('#');
    let name = cursor.take_name();
    if is_length && cursor.takes('[') {
        let is_whole = (cursor.takes('@') || cursor.takes('*')) && cursor.takes(']');
        if !is_whole {
            return None;
        }
    }
    let is_whole = cursor.takes('}') && (name.is_some() || is_length);
    names.extend(name.filter(|_| !is_length));
    is_whole.then_some(())
}

/// Takes a number: of ten digits, of eight, or `0x…`. Those of other bases are not known.
fn number(cursor: &mut Cursor<'_>) -> Option<()> {
    let is_hexadecimal =
        cursor.peek() == Some('0') && (cursor.second_is('x') || cursor.second_is('X'));
    if is_hexadecimal {
        cursor.take();
        cursor.take();
        while cursor.peek().is_some_and(|it| it.is_ascii_hexdigit()) {
            cursor.take();
        }
    } else {
        cursor.take_digits();
    }
    let ends = cursor.peek().is_none_or(|it| !it.is_ascii_alphanumeric() && it != '_');
    ends.then_some(())
}

/// The names of `i = 0, j = 1, …`, up to what is anything else.
fn set_first(text: &str) -> Vec<String> {
    let name = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        // `08` is a number of eight, and none.
        let is_decimal = !value.trim_start_matches(['-', '+']).starts_with('0') || value == "0";
        (is_name(name) && is_literal(value) && is_decimal).then(|| name.to_owned())
    };
    text.split(',').map_while(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_evaluates_names_numbers_and_operators_is_an_expression() {
        for (text, expected) in [
            ("1+2", Some(&[][..])),
            (" i + 1 ", Some(&["i"])),
            ("$i+${j}%0x1F", Some(&["i", "j"])),
            ("${#a[@]}-${#b}+$#+$?", Some(&[])),
            ("i++, j?1:(k-=2)", Some(&["i", "j", "k"])),
            ("a[0]", None),
            ("a[$(evil)]", None),
            ("$1", None),
            ("a$i", None),
            ("$i$j", None),
            ("16#ff", None),
            ("0xfg", None),
            ("08", Some(&[])),
            ("$(evil)", None),
            ("`evil`", None),
            ("\"$i\"", None),
            ("${i:-1}", None),
            ("${!i}", None),
            ("${#}", Some(&[])),
            ("$", None),
        ] {
            let names = expression(text).map(|it| it.names);
            let expected = expected.map(|names| names.iter().map(|it| (*it).to_owned()).collect());
            assert_eq!(names, expected, "{text}");
        }
    }

    #[test]
    fn only_a_number_that_is_assigned_first_is_set() {
        for (text, expected) in [
            ("i=0", &["i"][..]),
            (" i = 0 , j=-1, k=i", &["i", "j"]),
            ("i==0", &[]),
            ("i=0=1", &[]),
            ("i+=1", &[]),
            ("i=", &[]),
            ("i=08", &[]),
            ("i=-010", &[]),
            ("x, i=0", &[]),
        ] {
            assert_eq!(set_first(text), expected, "{text}");
        }
    }

    #[test]
    fn parentheses_end_where_bash_ends_them() {
        for (text, expected) in [
            ("((1+2))x", Some("1+2")),
            ("(((1)*2))", Some("(1)*2")),
            ("((1)", None),
            ("((1) )", None),
            ("((ka) || (kb))", None),
            ("((\"a\"))", None),
            ("((i=0;i<3;i++))", None),
        ] {
            assert_eq!(
                in_parentheses(&mut Cursor::new(text), false).as_deref(),
                expected,
                "{text}"
            );
        }
        assert!(in_parentheses(&mut Cursor::new("((i=0;i<3;i++))"), true).is_some());
    }
}
