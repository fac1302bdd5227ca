//! Redirections, and the here-documents that some of them announce.

use super::parse::{Doubt, Found, Kind, ListKind, Parser, State};
use super::simple::Draft;
use super::word::Ended;

#[derive(Debug, Clone, Copy)]
pub(super) enum Redirection {
    Input,
    Output,
    /// `>&` and `<&`, which copy a descriptor when its number follows.
    Copy {
        writes: bool,
    },
    Here {
        strips_tabs: bool,
    },
    HereString,
}

/// A here-document whose body has not come yet.
#[derive(Debug)]
pub(super) struct Awaited {
    end: String,
    is_literal: bool,
    strips_tabs: bool,
    /// How many substitutions it stands in.
    pub(super) level: usize,
}

impl Parser<'_> {
    /// A line break among tokens: the bodies of here-documents follow it.
    pub(super) fn line_break(&mut self) -> Result<(), Doubt> {
        self.cursor.take_raw();
        for awaited in std::mem::take(&mut self.awaited) {
            if awaited.level != self.level {
                return Err("a here-document has no clear place");
            }
            let body = self.cursor.take_body(&awaited.end, awaited.strips_tabs);
            let body = body.ok_or("a here-document has no end")?;
            if !awaited.is_literal && body.contains("\\\n") {
                return Err("a here-document joins lines");
            }
            if !awaited.is_literal && body.contains(['$', '`']) {
                self.read.nested.push((body.to_owned(), Kind::Body));
            }
        }
        Ok(())
    }

    /// A line break inside quotes; where a waiting here-document then starts is not clear.
    pub(super) fn quoted_line_break(&self) -> Result<(), Doubt> {
        if self.awaited.is_empty() { Ok(()) } else { Err("a here-document has no clear place") }
    }

    pub(super) fn redirection(&mut self) -> Result<(), Doubt> {
        let is_output = self.cursor.take() == Some('>');
        let second = self.cursor.peek();
        let redirection = match (is_output, second) {
            (true, Some('>' | '|')) | (false, Some('>')) => {
                self.cursor.take();
                Redirection::Output
            }
            (_, Some('&')) => {
                self.cursor.take();
                Redirection::Copy { writes: is_output }
            }
            (false, Some('<')) => {
                self.cursor.take();
                if self.cursor.takes('<') {
                    self.only_bash()?;
                    Redirection::HereString
                } else {
                    Redirection::Here { strips_tabs: self.cursor.takes('-') }
                }
            }
            (true, _) => Redirection::Output,
            (false, _) => Redirection::Input,
        };
        self.redirect(redirection)?;
        if let Redirection::Copy { .. } = redirection {
            self.closing()?;
        }
        Ok(())
    }

    /// In `<&-` the dash is a token by itself for bash: in `<&-a` the `a` is an argument.
    fn closing(&mut self) -> Result<(), Doubt> {
        self.cursor.skip_blanks();
        if !self.cursor.takes('-') {
            return Ok(());
        }
        self.list()?.redirection = None;
        match self.cursor.peek() {
            None | Some(' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>') => Ok(()),
            Some(_) => Err("shells read it differently"),
        }
    }

    pub(super) fn redirect(&mut self, redirection: Redirection) -> Result<(), Doubt> {
        let list = self.list()?;
        if list.names_function {
            return Err("a function has no name");
        }
        // What cannot be opened keeps the command from running.
        list.scope.setting.clear();
        if let State::Start(_) = list.state {
            list.state = State::Simple(Draft::default());
        }
        if let State::Simple(draft) = &mut list.state {
            draft.has_redirection = true;
        }
        list.redirection = Some(redirection);
        Ok(())
    }

    pub(super) fn redirected(
        &mut self,
        redirection: Redirection,
        ended: &Ended,
    ) -> Result<(), Doubt> {
        let target = ended.word.known();
        let mut is_write = false;
        match redirection {
            Redirection::HereString => {}
            Redirection::Here { strips_tabs } => {
                if self.level > 0 {
                    let list = self.list()?;
                    if list.kind != ListKind::Substitution {
                        return Err("a here-document in a substitution has no clear place");
                    }
                    list.has_here_document = true;
                }
                let (end, is_literal) =
                    ended.delimiter().ok_or("a here-document has no clear end")?;
                self.awaited.push(Awaited { end, is_literal, strips_tabs, level: self.level });
            }
            Redirection::Copy { writes } => {
                let is_number = |text: &str| {
                    let digits = text.strip_suffix('-').unwrap_or(text);
                    digits.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty()
                };
                is_write = writes && !target.is_some_and(is_number);
                // bash expands the name twice: `>& '$(date)'` runs what is quoted.
                let is_plain = |name: &str| {
                    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte))
                };
                if is_write && !target.is_some_and(is_plain) {
                    return Err("the file of `>&` is expanded twice");
                }
            }
            Redirection::Output => {
                const NOWHERE: [&str; 3] = ["/dev/null", "/dev/stdout", "/dev/stderr"];
                is_write = !target.is_some_and(|target| NOWHERE.contains(&target));
            }
            Redirection::Input => {
                // bash opens connections by names below `/dev/tcp` and `/dev/udp`.
                let is_file = |name: &str| name == "/dev/null" || !name.starts_with("/dev/");
                is_write = !target.is_some_and(is_file) && !ended.is_output_of_process();
            }
        }
        if is_write && !self.is_guess() {
            self.read.found.push(Found::Write(ended.word.clone()));
        }
        Ok(())
    }
}
