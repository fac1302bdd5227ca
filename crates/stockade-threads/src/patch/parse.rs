//! From text to [`Patch`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{
    Edit, FILE_MAX, FILES_MAX, FileChange, FileMode, Hunk, HunkLine, LineKind, Patch, PatchError,
    PatchFault, TEXT_MAX, TOTAL_MAX, TreePath, binary,
};
use crate::git::ObjectId;
use crate::quote::unquoted;

impl<'a> Patch<'a> {
    /// Reads a diff.
    ///
    /// # Errors
    ///
    /// [`PatchError`] with the line of the first thing that is not taken.
    pub fn parse(text: &'a [u8]) -> Result<Self, PatchError> {
        if text.len() > TEXT_MAX {
            return Err(
                PatchFault::TooLarge { what: "the bytes of the diff", limit: TEXT_MAX }.at(1)
            );
        }
        let mut lines = Lines { rest: text, number: 1 };
        let mut files: Vec<FileChange<'a>> = Vec::new();
        let mut seen: BTreeMap<TreePath, usize> = BTreeMap::new();
        let mut unpacked = 0;
        while !lines.rest.is_empty() {
            let file = lines.file(&mut unpacked)?;
            if files.len() == FILES_MAX {
                let fault =
                    PatchFault::TooLarge { what: "the files of the diff", limit: FILES_MAX };
                return Err(fault.at(file.line));
            }
            if let Some(earlier) = seen.insert(file.path.clone(), files.len()) {
                let last = files.get(earlier).filter(|_| earlier + 1 == files.len());
                let is_replaced = last.is_some_and(|last| last.after.is_none());
                if !(is_replaced && file.before.is_none()) {
                    return Err(PatchFault::Duplicate(file.path.as_bytes().into()).at(file.line));
                }
            }
            files.push(file);
        }
        Ok(Self { files })
    }
}

/// What stands between the name of a file and its content.
#[derive(Debug, Default)]
struct Header {
    old_mode: Option<FileMode>,
    new_mode: Option<FileMode>,
    deleted: Option<FileMode>,
    created: Option<FileMode>,
    ids: Option<(ObjectId, ObjectId)>,
    same_mode: Option<FileMode>,
}

/// Mode before, mode after.
type Modes = (Option<FileMode>, Option<FileMode>);

impl Header {
    fn modes(&self) -> Option<Modes> {
        let Self { old_mode, new_mode, deleted, created, same_mode, .. } = self;
        match (old_mode, new_mode, deleted, created, same_mode) {
            (None, None, None, Some(mode), None) => Some((None, Some(*mode))),
            (None, None, Some(mode), None, None) => Some((Some(*mode), None)),
            (Some(old), Some(new), None, None, None) => Some((Some(*old), Some(*new))),
            (None, None, None, None, Some(mode)) => Some((Some(*mode), Some(*mode))),
            _ => None,
        }
    }
}

/// The lines that are left.
#[derive(Debug, Clone, Copy)]
struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    /// The next line without its line break.
    fn peek(&self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        self.rest.get(..end)
    }

    fn take(&mut self) -> Result<&'a [u8], PatchError> {
        let line = self.peek().ok_or_else(|| self.wrong("it ends in the middle"))?;
        self.rest = self.rest.get(line.len() + 1..).unwrap_or_default();
        self.number += 1;
        Ok(line)
    }

    fn take_after(&mut self, start: &[u8]) -> Option<&'a [u8]> {
        let after = self.peek()?.strip_prefix(start)?;
        self.take().ok()?;
        Some(after)
    }

    /// Something is wrong with the line that comes next.
    fn wrong(&self, what: &'static str) -> PatchError {
        PatchFault::Syntax(what).at(self.number)
    }

    fn file(&mut self, unpacked: &mut usize) -> Result<FileChange<'a>, PatchError> {
        let line = self.number;
        let named = self.take_after(b"diff --git ");
        let named = named.ok_or_else(|| self.wrong("there is no `diff --git` here"))?;
        let name = names(named).ok_or_else(|| {
            PatchFault::Syntax("the two names are not one name after `a/` and `b/`").at(line)
        })?;
        let path = TreePath::new(&name)
            .map_err(|fault| PatchFault::Path { path: name.to_vec(), fault }.at(line))?;
        let header = self.header()?;
        let modes = header.modes();
        let (before, after) = modes.ok_or_else(|| {
            PatchFault::Syntax("its modes are missing, or contradict each other").at(line)
        })?;
        if before.zip(after).is_some_and(|(before, after)| before.is_file() != after.is_file()) {
            return Err(PatchFault::Syntax("a file does not become a link by its mode").at(line));
        }
        let edit = self.edit(&name, (before, after), unpacked)?;
        let has_content = header.ids.is_some();
        if (edit != Edit::None) && !has_content {
            return Err(PatchFault::Syntax("content without an `index` line").at(line));
        }
        Ok(FileChange { line, path, before, after, ids: header.ids, edit })
    }

    fn header(&mut self) -> Result<Header, PatchError> {
        let mut header = Header::default();
        loop {
            let at = self.number;
            let mode = |text: &[u8]| mode(text).ok_or_else(|| mode_fault(text).at(at));
            let slot = if let Some(text) = self.take_after(b"old mode ") {
                (&mut header.old_mode, text)
            } else if let Some(text) = self.take_after(b"new mode ") {
                (&mut header.new_mode, text)
            } else if let Some(text) = self.take_after(b"deleted file mode ") {
                (&mut header.deleted, text)
            } else if let Some(text) = self.take_after(b"new file mode ") {
                (&mut header.created, text)
            } else if let Some(text) = self.take_after(b"index ") {
                let mut words = text.splitn(2, |byte| *byte == b' ');
                let ids = words.next().and_then(ids);
                let ids = ids.ok_or_else(|| PatchFault::Syntax(SHORT).at(at))?;
                if header.ids.replace(ids).is_some() {
                    return Err(PatchFault::Syntax("a second `index` line").at(at));
                }
                header.same_mode = words.next().map(mode).transpose()?;
                continue;
            } else {
                return self.end_of(header);
            };
            if slot.0.replace(mode(slot.1)?).is_some() {
                return Err(PatchFault::Syntax("a second mode").at(at));
            }
        }
    }

    fn end_of(&self, header: Header) -> Result<Header, PatchError> {
        const OTHERS: [(&[u8], &str); 5] = [
            (b"similarity ", "renames"),
            (b"dissimilarity ", "rewrites"),
            (b"rename ", "renames"),
            (b"copy ", "copies"),
            (b"Binary files ", "diffs made without `--binary`"),
        ];
        let line = self.peek().unwrap_or_default();
        match OTHERS.iter().find(|(start, _)| line.starts_with(start)) {
            Some((_, what)) => Err(PatchFault::Unsupported(what).at(self.number)),
            None => Ok(header),
        }
    }

    fn edit(
        &mut self,
        name: &[u8],
        modes: Modes,
        unpacked: &mut usize,
    ) -> Result<Edit<'a>, PatchError> {
        let at = self.number;
        if self.take_after(b"GIT binary patch").is_some() {
            return self.binary(name, unpacked);
        }
        let Some(old) = self.take_after(b"--- ") else { return Ok(Edit::None) };
        let new = self.take_after(b"+++ ");
        let new = new.ok_or_else(|| self.wrong("there is no `+++` here"))?;
        let is_old = side(old, b"a/", name, modes.0.is_some());
        if !is_old || !side(new, b"b/", name, modes.1.is_some()) {
            return Err(PatchFault::Syntax("another name than above").at(at));
        }
        let mut hunks = Vec::new();
        while let Some(head) = self.take_after(b"@@ ") {
            hunks.push(self.hunk(head)?);
        }
        if hunks.is_empty() {
            return Err(self.wrong("there is no `@@` here"));
        }
        Ok(Edit::Text(hunks))
    }

    fn hunk(&mut self, head: &[u8]) -> Result<Hunk<'a>, PatchError> {
        let line = self.number - 1;
        let (old, new) =
            ranges(head).ok_or_else(|| PatchFault::Syntax("no such range").at(line))?;
        let (mut old_left, mut new_left) = (old.1, new.1);
        let mut lines: Vec<HunkLine<'a>> = Vec::new();
        while old_left > 0 || new_left > 0 {
            let start = self.rest;
            let text = self.take()?;
            let (kind, from_old, from_new) = match text.first() {
                Some(b' ') => (LineKind::Context, 1, 1),
                Some(b'-') => (LineKind::Removed, 1, 0),
                Some(b'+') => (LineKind::Added, 0, 1),
                _ => return Err(PatchFault::Syntax("no line of a hunk").at(self.number - 1)),
            };
            let left = old_left.checked_sub(from_old).zip(new_left.checked_sub(from_new));
            let Some(left) = left else {
                return Err(PatchFault::Syntax("more lines than its range").at(self.number - 1));
            };
            (old_left, new_left) = left;
            let is_unended = self.take_after(b"\\ ").is_some();
            let end = text.len() + usize::from(!is_unended);
            let text = start.get(1..end).unwrap_or_default();
            lines.push(HunkLine { kind, text: Cow::Borrowed(text) });
        }
        // A range without lines names the line before it.
        let start = if old.1 == 0 { Some(old.0) } else { old.0.checked_sub(1) };
        let start = start.ok_or_else(|| PatchFault::Syntax("no such range").at(line))?;
        Ok(Hunk { line, start, lines })
    }

    fn binary(&mut self, name: &[u8], unpacked: &mut usize) -> Result<Edit<'a>, PatchError> {
        let at = self.number;
        let broken = || PatchFault::Binary(name.to_vec()).at(at);
        let Some((is_literal, size, packed)) = self.packed()? else { return Err(broken()) };
        let limit = |what, limit| PatchFault::TooLarge { what, limit }.at(at);
        if size > FILE_MAX {
            return Err(limit("the bytes of a file", FILE_MAX));
        }
        *unpacked = unpacked.saturating_add(size);
        if *unpacked > TOTAL_MAX {
            return Err(limit("the bytes of all files", TOTAL_MAX));
        }
        let content = binary::inflate(&packed, size).ok_or_else(broken)?;
        // The way back, which is not needed.
        self.packed()?;
        Ok(if is_literal { Edit::Literal(content) } else { Edit::Delta(content) })
    }

    /// One block: whether it is literal, how long it is, and what it was packed to.
    fn packed(&mut self) -> Result<Option<(bool, usize, Vec<u8>)>, PatchError> {
        let literal = self.take_after(b"literal ");
        let Some(size) = literal.or_else(|| self.take_after(b"delta ")) else { return Ok(None) };
        let at = self.number - 1;
        let size = number(size).ok_or_else(|| PatchFault::Syntax("no size").at(at))?;
        let mut packed = Vec::new();
        loop {
            let line = self.take()?;
            if line.is_empty() {
                return Ok(Some((literal.is_some(), size, packed)));
            }
            let bytes = binary::decode_line(line);
            let wrong = || PatchFault::Syntax("no line of base 85").at(self.number - 1);
            packed.extend(bytes.ok_or_else(wrong)?);
        }
    }
}

const SHORT: &str = "its object names are not whole";

/// The name in `a/NAME b/NAME`, quoted or not. Without renames both are the same, so that the
/// middle is known.
fn names(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (old, new) = if text.first() == Some(&b'"') {
        let (old, length) = unquoted(text)?;
        let rest = text.get(length..)?.strip_prefix(b" ")?;
        let (new, length) = unquoted(rest)?;
        (length == rest.len()).then_some(())?;
        (Cow::Owned(old), Cow::Owned(new))
    } else {
        let middle = text.len() / 2;
        (text.get(middle) == Some(&b' ')).then_some(())?;
        (Cow::Borrowed(text.get(..middle)?), Cow::Borrowed(text.get(middle + 1..)?))
    };
    let name = old.strip_prefix(b"a/")?;
    (new.strip_prefix(b"b/")? == name).then(|| match &old {
        Cow::Borrowed(old) => Cow::Borrowed(old.get(2..).unwrap_or_default()),
        Cow::Owned(_) => Cow::Owned(name.to_vec()),
    })
}

/// Whether `text`, after `---` or `+++`, names what it should.
fn side(text: &[u8], prefix: &[u8], name: &[u8], is_there: bool) -> bool {
    if !is_there {
        return text == b"/dev/null";
    }
    // A name with a space in it is followed by a tab, so that patch(1) sees its end; a quoted one
    // too.
    let text = text.strip_suffix(b"\t").filter(|_| name.contains(&b' ')).unwrap_or(text);
    if text.first() == Some(&b'"') {
        return unquoted(text).is_some_and(|(found, length)| {
            length == text.len() && found.strip_prefix(prefix) == Some(name)
        });
    }
    text.strip_prefix(prefix) == Some(name)
}

/// `100644`.
fn mode(text: &[u8]) -> Option<FileMode> {
    let text = str::from_utf8(text).ok().filter(|text| text.len() == 6)?;
    u32::from_str_radix(text, 8).ok().and_then(FileMode::from_bits)
}

fn mode_fault(text: &[u8]) -> PatchFault {
    let digits = text.iter().take(8).copied().map(char::from);
    PatchFault::Mode(digits.filter(char::is_ascii_digit).collect())
}

/// `OID..OID`.
fn ids(text: &[u8]) -> Option<(ObjectId, ObjectId)> {
    let (old, new) = str::from_utf8(text).ok()?.split_once("..")?;
    let (old, new): (ObjectId, ObjectId) = (old.parse().ok()?, new.parse().ok()?);
    (old.as_str().len() == new.as_str().len()).then_some((old, new))
}

/// `-START[,COUNT] +START[,COUNT] @@…`, each as (start, count).
fn ranges(head: &[u8]) -> Option<((usize, usize), (usize, usize))> {
    let end = head.windows(3).position(|window| window == b" @@")?;
    let mut words = head.get(..end)?.split(|byte| *byte == b' ');
    let old = range(words.next()?.strip_prefix(b"-")?)?;
    let new = range(words.next()?.strip_prefix(b"+")?)?;
    words.next().is_none().then_some((old, new))
}

fn range(text: &[u8]) -> Option<(usize, usize)> {
    let mut parts = text.splitn(2, |byte| *byte == b',');
    let start = number(parts.next()?)?;
    Some((start, parts.next().map_or(Some(1), number)?))
}

/// Decimal digits, no sign, and no more than any file has lines.
fn number(text: &[u8]) -> Option<usize> {
    let is_number = (1..=10).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}
