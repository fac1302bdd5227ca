//! Judging what is executed inside, before the kernel does it.
//!
//! The kernel has to execute it itself, and reads path and words again when it does: a thread that
//! rewrites them meanwhile is executed unjudged. What no race may pass stands as a stub in the view.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;

use super::caller::Caller;
use super::place::{self, Found, Place};
use crate::ExecRequest;
use crate::execs::{ExecRefusal, Execs};
use crate::linux::asks::Wanted;

/// As much as the kernel takes with the stack that it gives a program (`execve(2)`), in bytes and
/// in words; more is what more would be there: too long.
const WORDS_MAX: usize = 128 * 1024;
const BYTES_MAX: usize = 2 << 20;

/// How many scripts may be the interpreters of each other; the kernel follows one fewer.
const INTERPRETERS_MAX: usize = 6;

/// The first line of a script as far as the kernel reads it (`BINPRM_BUF_SIZE`).
const FIRST_LINE: u64 = 256;

/// What the kernel does not write more of at once than a pipe that is ready takes.
const LINE_MAX: usize = 4096;

/// Why a program is not executed.
#[derive(Debug)]
pub(super) struct Refused {
    /// The file without links.
    pub(super) target: PathBuf,
    pub(super) refusal: ExecRefusal,
    /// What somebody may be asked about, where only rules that ask are against it.
    pub(super) asks: Option<Wanted>,
}

/// A program that is about to be executed, copied.
struct Request {
    asked: String,
    file: OwnedFd,
    name: PathBuf,
    argv: Vec<String>,
}

impl Request {
    fn wanted(&self) -> Wanted {
        let (asked, file) = (self.asked.clone(), self.name.to_string_lossy().into_owned());
        Wanted::Execute { asked, file, argv: self.argv.clone() }
    }
}

/// Why the caller's program is not executed, if it is not.
///
/// # Errors
///
/// What the kernel would say of a path or of words that are not there.
pub(super) fn refusal(caller: &Caller<'_>, execs: &Execs) -> io::Result<Option<Refused>> {
    let request = read(caller)?;
    let wanted = request.wanted();
    let Some((target, refusal)) = judge(caller, execs, request) else { return Ok(None) };
    let asks = refusal.asks.then_some(wanted);
    Ok(Some(Refused { target, refusal, asks }))
}

/// Whether the caller still gives what it gave when `wanted` was read.
pub(super) fn is_still(caller: &Caller<'_>, wanted: &Wanted) -> bool {
    read(caller).is_ok_and(|request| request.wanted() == *wanted)
}

fn read(caller: &Caller<'_>) -> io::Result<Request> {
    let at = usize::from(caller.number() == libc::SYS_execveat);
    let folder = if at == 0 { libc::AT_FDCWD } else { caller.integer(0) };
    let path = caller.read_path(caller.argument(at))?;
    let is_descriptor = at == 1 && path.is_empty() && caller.integer(4) & libc::AT_EMPTY_PATH != 0;
    let argv = words(caller, caller.argument(at + 1))?;
    let (file, name) = if is_descriptor {
        let file = caller.object(folder)?;
        let name = place::name_of(&file)?;
        (file, name)
    } else {
        find(caller, folder, &path)?
    };
    caller.confirm()?;
    let asked = String::from_utf8_lossy(&path).into_owned();
    Ok(Request { asked, file, name, argv })
}

/// Judges the file and the interpreters that it names: the kernel starts those without a call.
/// What denies is told before what asks.
fn judge(caller: &Caller<'_>, execs: &Execs, request: Request) -> Option<(PathBuf, ExecRefusal)> {
    let Request { mut asked, mut file, mut name, mut argv } = request;
    let mut first = None;
    for _ in 0..INTERPRETERS_MAX {
        let whole = name.to_string_lossy();
        let request = ExecRequest { asked: &asked, file: &whole, argv: &argv };
        if let Some(refusal) = execs.refusal(&request) {
            if !refusal.asks {
                return Some((name, refusal));
            }
            first.get_or_insert_with(|| (name.clone(), refusal));
        }
        let Some((interpreter, argument)) = interpreter(&file) else { break };
        let Ok(found) = find(caller, libc::AT_FDCWD, interpreter.as_bytes()) else { break };
        let script = std::mem::replace(&mut asked, interpreter.clone());
        let rest = argv.into_iter().skip(1);
        argv = [interpreter].into_iter().chain(argument).chain([script]).chain(rest).collect();
        (file, name) = found;
    }
    first
}

/// The file that `path` leads to, as a reference, and its name without links.
fn find(caller: &Caller<'_>, folder: i32, path: &[u8]) -> io::Result<(OwnedFd, PathBuf)> {
    let mut place = Place::of(caller, folder, path)?;
    let mut links = 0;
    while place.kind() == Some(FileType::Symlink) {
        match place.follow(caller, &mut links)? {
            Found::Place(next) => place = next,
            Found::Object(file, name) => return Ok((file, name)),
        }
    }
    let file = place.reference()?;
    let name = place::name_of(&file)?;
    Ok((file, name))
}

/// What a script's first line names, with the one argument that it may give.
fn interpreter(file: &OwnedFd) -> Option<(String, Option<String>)> {
    let stat = rustix::fs::fstat(file).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut line = Vec::new();
    // One that cannot be read is no script: its interpreter could not read it either.
    File::open(path).ok()?.take(FIRST_LINE).read_to_end(&mut line).ok()?;
    first_line(&line)
}

fn first_line(start: &[u8]) -> Option<(String, Option<String>)> {
    let rest = start.strip_prefix(b"#!")?;
    let line = rest.split(|byte| matches!(byte, b'\n' | 0)).next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let line = line.trim_matches([' ', '\t']);
    let (name, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let argument = argument.trim_matches([' ', '\t']);
    let argument = (!argument.is_empty()).then(|| argument.to_owned());
    (!name.is_empty()).then(|| (name.to_owned(), argument))
}

/// Copies the words of the list at `address`.
fn words(caller: &Caller<'_>, address: u64) -> io::Result<Vec<String>> {
    let mut words = Vec::new();
    if address == 0 {
        return Ok(words);
    }
    let (mut list, mut text) = (Pages::new(caller), Pages::new(caller));
    let mut bytes = 0;
    for index in 0.. {
        let mut pointer = [0; 8];
        for (offset, byte) in (0..).zip(&mut pointer) {
            *byte = list.byte(address.wrapping_add(index * 8 + offset))?;
        }
        let start = u64::from_ne_bytes(pointer);
        if start == 0 {
            break;
        }
        let word = text.string(start, BYTES_MAX - bytes)?;
        bytes += word.len() + 1;
        if words.len() == WORDS_MAX || bytes > BYTES_MAX {
            return too_long();
        }
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Ok(words)
}

fn too_long<T>() -> io::Result<T> {
    Err(io::Error::from_raw_os_error(libc::E2BIG))
}

/// Memory of the caller by pages, each copied once while one is looked at after the other.
#[derive(Debug)]
struct Pages<'a> {
    caller: &'a Caller<'a>,
    start: u64,
    page: Vec<u8>,
}

impl<'a> Pages<'a> {
    const SIZE: u64 = 4096;

    const fn new(caller: &'a Caller<'a>) -> Self {
        Self { caller, start: 0, page: Vec::new() }
    }

    /// The page's bytes from `address` on.
    fn from(&mut self, address: u64) -> io::Result<&[u8]> {
        let start = address - address % Self::SIZE;
        if self.page.is_empty() || self.start != start {
            self.page = self.caller.read(start, 4096)?;
            self.start = start;
        }
        let offset = usize::try_from(address % Self::SIZE).unwrap_or_default();
        Ok(self.page.get(offset..).unwrap_or_default())
    }

    fn byte(&mut self, address: u64) -> io::Result<u8> {
        Ok(self.from(address)?.first().copied().unwrap_or_default())
    }

    fn string(&mut self, mut address: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut string = Vec::new();
        loop {
            let rest = self.from(address)?;
            let end = rest.iter().position(|byte| *byte == 0);
            let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            string.extend_from_slice(part);
            address = address.wrapping_add(part.len() as u64);
            if end.is_some() {
                return Ok(string);
            }
            if string.len() > most {
                return too_long();
            }
        }
    }
}

/// Writes `line` to the caller's standard error, if that takes it at once; `told` was last.
pub(super) fn tell(caller: &Caller<'_>, line: &str, told: &Mutex<(i32, String)>) -> io::Result<()> {
    let this = (caller.thread(), line.to_owned());
    // A shell goes on to the next folder of its `PATH`, where the same program may be once more.
    if std::mem::replace(&mut *told.lock().unwrap_or_else(PoisonError::into_inner), this.clone())
        == this
    {
        return Ok(());
    }
    let error = caller.descriptor(2)?;
    caller.confirm()?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&error)?.st_mode);
    let is_told = match kind {
        FileType::Fifo | FileType::CharacterDevice | FileType::Socket => true,
        // What is written to some of `/proc` does something.
        FileType::RegularFile => place::in_proc(&place::name_of(&error)?).is_none(),
        FileType::Directory | FileType::Symlink | FileType::BlockDevice | FileType::Unknown => {
            false
        }
    };
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut ready = [PollFd::new(&error, PollFlags::OUT)];
    if !is_told || poll(&mut ready, Some(&now))? == 0 {
        return Ok(());
    }
    let mut text = line.replace(char::is_control, " ").into_bytes();
    text.truncate(LINE_MAX - 1);
    text.push(b'\n');
    File::from(error).write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scripts_first_line_names_its_interpreter_as_the_kernel_reads_it() {
        #[rustfmt::skip]
        const CASES: &[(&str, &str, &str)] = &[
            ("#!/bin/sh\nx",           "/bin/sh",      ""),
            ("#! \t/bin/sh -e -x \nx", "/bin/sh",      "-e -x"),
            ("#!/usr/bin/env docker",  "/usr/bin/env", "docker"),
            ("#!\n/bin/sh",            "",             ""),
            ("\x7fELF",                "",             ""),
            ("",                       "",             ""),
        ];
        for &(start, name, argument) in CASES {
            let found = first_line(start.as_bytes());
            let argument = (!argument.is_empty()).then(|| argument.to_owned());
            let expected = (!name.is_empty()).then(|| (name.to_owned(), argument));
            assert_eq!(found, expected, "{start:?}");
        }
    }
}
